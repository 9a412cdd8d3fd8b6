"""Training tensors of a set of scans: one per slice that shows tissue, or one per volume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Generator, Tensor
from torch.nn import functional as F

from cmmulti.conditioning import NULL_LABEL
from cmmulti.errors import UserError
from cmmulti.modality import TrainingSet
from modalities.volume.item import Volume
from modalities.volume.representation import AIR, intensity, layout
from modalities.volume.settings import VolumeSettings


class VolumeData(BaseModel):
    """``data.options`` of every volume data set; augmentations are drawn anew for each sample."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gain: tuple[float, float] = Field((0.7, 1.4), description="MR: smallest and largest random factor of the intensity")
    bias: float = Field(0.0, ge=0, le=1, description="MR: strength of a random smooth intensity field, in ln units")
    flip: bool | None = Field(None, description="random left-right flips; null: not of sagittal slices")
    zoom: tuple[float, float] = Field((1.0, 1.0), description="smallest and largest random enlargement")
    crop: tuple[int, ...] | None = Field(None, description="spatial size of a training tensor; default: the model's")
    content: float = Field(0.05, ge=0, lt=1, description="2D: least fraction of a slice that is not air")
    seed: int = Field(0, ge=0, description="of the split, where the data set fixes none")
    fractions: tuple[float, float] = Field((0.1, 0.1), description="of subjects for val and test, where none are fixed")
    central: int = Field(20, ge=0, description="2D: central slices of each scan that tasks are evaluated on; 0 for all")

    @field_validator("gain", "zoom")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] < math.inf:
            raise ValueError("expected 0 < smallest <= largest")
        return value

    @field_validator("fractions")
    @classmethod
    def _leaves_some(cls, value: tuple[float, float]) -> tuple[float, float]:
        if min(value) < 0 or sum(value) >= 1:
            raise ValueError("expected fractions of at least 0 that leave some for train")
        return value

    @field_validator("crop")
    @classmethod
    def _positive(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and any(n < 1 for n in value):
            raise ValueError("expected sizes of at least 1")
        return value


class VolumeSet(TrainingSet):
    """One split of a data set.

    Args:
        scans: name -> scan. settings: of the model. options: what is drawn, and the size of the tensors.

    Attributes:
        scans: the whole scans, for evaluation by subject. flip: whether samples are flipped.
    """

    def __init__(self, scans: Mapping[str, Volume], settings: VolumeSettings, options: VolumeData) -> None:
        self.scans = dict(scans)
        self.settings, self.options = settings, options
        # A sagittal slice lies within one side: its columns run from front to back.
        lateral = settings.plane != "sagittal"
        if options.flip and not lateral:
            raise UserError("data.options.flip = true: flips sagittal slices front to back; expected false or null")
        self.flip = lateral if options.flip is None else options.flip
        self.crop = tuple(options.crop or settings.size)
        if len(self.crop) != settings.dims:
            raise UserError(f"data.options.crop = {list(self.crop)}: expected {settings.dims} sizes for this model")
        self._ordered = [layout(v, settings).apply(v.data) for v in self.scans.values()]
        self._scale = [_scale(name, v, settings) for name, v in self.scans.items()]
        self._places = [(i, k) for i in range(len(self._ordered)) for k in self._kept(i)]
        keys = list(self.scans)
        self.names = [keys[i] if settings.dims == 3 else f"{keys[i]}, slice {k}" for i, k in self._places]
        self.labels = torch.full((len(self._places),), NULL_LABEL, dtype=torch.int64)

    def tensor(self, index: int, generator: Generator | None) -> Tensor:
        """(1, *crop) float32 in model space; smaller scans are centred in air, larger ones cropped at the centre, or
        anywhere when ``generator`` is given."""
        scan, k = self._places[index]
        stored = self._ordered[scan] if self.settings.dims == 3 else self._ordered[scan][k]
        factor, shift = self._scale[scan]
        x = torch.from_numpy(np.multiply(stored, factor, dtype=np.float32) + np.float32(shift))
        if generator is not None:
            x = self._augmented(x, generator)
        return self._fitted(x.clamp(*self.settings.valid_range), generator)[None]

    def item(self, index: int) -> Volume:
        """The scan of one slice, or the volume."""
        scan, k = self._places[index]
        volume = list(self.scans.values())[scan]
        return volume if self.settings.dims == 3 else layout(volume, self.settings).one_slice(volume, k)

    @property
    def files(self) -> Sequence[str]:
        keys = list(self.scans)
        return [keys[i] for i, _ in self._places]

    @property
    def cases(self) -> Sequence[str]:
        return list(self.scans)

    def case(self, number: int) -> Volume:
        """A scan; of slices, the ``central`` ones of those that show tissue."""
        volume = list(self.scans.values())[number]
        shown = list(self._kept(number))
        if self.settings.dims == 3 or not self.options.central or not shown:
            return volume
        count = min(self.options.central, len(self._ordered[number]))
        first = (shown[0] + shown[-1] + 1 - count) // 2
        return layout(volume, self.settings).slab(volume, min(max(first, 0), len(self._ordered[number]) - count), count)

    def _kept(self, scan: int) -> Sequence[int]:
        """The slices that show tissue: a tenth of the way from air to the percentile, or -500 HU."""
        if self.settings.dims == 3:
            return [0]
        factor, shift = self._scale[scan]
        threshold = ((-0.8 if self.settings.kind == "mr" else -0.5) - shift) / factor
        stored = self._ordered[scan]
        shows = stored > threshold if factor > 0 else stored < threshold
        return np.flatnonzero(shows.mean((1, 2)) > self.options.content).tolist()

    def _augmented(self, x: Tensor, generator: Generator) -> Tensor:
        options = self.options
        draw = torch.rand(3, generator=generator).tolist()
        if self.flip and draw[0] < 0.5:
            x = x.flip(-1)
        if options.zoom != (1.0, 1.0):
            x = _resized(x, _between(options.zoom, draw[1]))
        if self.settings.kind == "mr":
            factor: Tensor | float = _between(options.gain, draw[2])
            if options.bias:
                factor = factor * _smooth_field(x.shape, generator).mul(options.bias).exp()
            x = (x - AIR) * factor + AIR
        return x

    def _fitted(self, x: Tensor, generator: Generator | None) -> Tensor:
        out = x.new_full(self.crop, AIR)
        source, target = [], []
        for n, m in zip(x.shape, self.crop, strict=True):
            room = max(n - m, 0)
            start = room // 2 if generator is None or not room else _integer(room + 1, generator)
            source.append(slice(start, start + min(n, m)))
            before = max(m - n, 0) // 2
            target.append(slice(before, before + min(n, m)))
        out[tuple(target)] = x[tuple(source)]
        return out


def _scale(name: str, volume: Volume, settings: VolumeSettings) -> tuple[float, float]:
    """Factor and shift from stored numbers to model space."""
    gain, offset = intensity(volume.values(), settings, name)
    return volume.slope / gain, (volume.inter - offset) / gain


def _between(limits: tuple[float, float], u: float) -> float:
    """Evenly distributed in the logarithm."""
    low, high = map(math.log, limits)
    return math.exp(low + u * (high - low))


def _integer(n: int, generator: Generator) -> int:
    return int(torch.randint(n, (1,), generator=generator))


def _resized(x: Tensor, factor: float) -> Tensor:
    size = [max(1, round(n * factor)) for n in x.shape]
    if x.dim() == 2:
        return F.interpolate(x[None, None], size, mode="bilinear", antialias=True)[0, 0]
    return F.interpolate(x[None, None], size, mode="trilinear")[0, 0]


def _smooth_field(shape: Sequence[int], generator: Generator) -> Tensor:
    """Standard normal on a grid of three points per axis, interpolated."""
    coarse = torch.randn((1, 1, *[3] * len(shape)), generator=generator)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return F.interpolate(coarse, tuple(shape), mode=mode, align_corners=True)[0, 0]
