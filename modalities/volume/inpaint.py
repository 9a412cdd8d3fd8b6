"""Task ``inpaint``: fill what a mask or a box hides; every other voxel keeps its stored value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Modality, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.noise import geometric
from cmmulti.operators.affine import Affine
from cmmulti.operators.mask import Mask
from cmmulti.problems.base import Noised, Problem
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import SampleRandomness
from modalities.volume import representation
from modalities.volume.harmonic import harmonic
from modalities.volume.item import Array, Volume
from modalities.volume.resampling import AIR_HU, Resampling
from modalities.volume.scans.files import load, load_mask
from modalities.volume.settings import VolumeSettings

START, STOP = 0.6, 0.3
"""First noise level of a fill, and the highest of its last ones, model space. From pure noise the first estimate hears
little of the known voxels; a low level keeps the smooth fill as it is. Chosen by PSNR on 16 validation volumes."""


class InpaintOptions(TaskOptions):
    """What to fill: a mask, a box, or both together."""

    mask: Path | None = Field(None, description="NIfTI on the input's grid; its non-zero voxels are filled")
    box: tuple[float, float, float, float, float, float] | None = Field(
        None, description="x0,y0,z0,x1,y1,z1 in world mm (RAS+); the voxels whose centres lie in it are filled"
    )
    start_level: float = Field(START, gt=0, description="first noise level: how far the fill may go from the smooth one")
    resample: bool = Field(False, description="fill on the model's voxel size where the input's differs too much")

    @model_validator(mode="after")
    def _something(self) -> InpaintOptions:
        if self.mask is None and self.box is None:
            raise ValueError("expected --mask FILE or --box x0,y0,z0,x1,y1,z1, got neither")
        return self


@dataclass(frozen=True)
class _Filled:
    """Turns the sampled tensor into the scan with its hole filled."""

    volume: Volume
    hidden: Array
    grid: Volume
    chosen: Tensor
    affine: Affine
    settings: VolumeSettings
    back: Callable[[Array], Array]

    def __call__(self, x: Tensor, randomness: SampleRandomness) -> Volume:
        # On a resampled grid a sliver of the hole may lie in voxels that are known: they serve as they are.
        parts = representation.to_parts(self.grid.values(), self.grid, self.settings)
        parts[self.chosen] = self.affine.to_item(x.float())
        values = self.back(representation.from_parts(parts, self.grid, self.settings))
        return self.volume.with_replaced(self.hidden, values)


class Inpaint(Task):
    """Fill the hidden voxels of a scan."""

    name = "inpaint"
    verb = "edit"
    summary = "fill the voxels of a mask or a box; all others keep their stored values"
    Options = InpaintOptions

    def prepare(self, modality: Modality, source: Path | Any, options: InpaintOptions, model: Model) -> Assignment:
        settings: VolumeSettings = modality.settings
        volume = load(source) if isinstance(source, Path) else source
        representation.check_kind(volume, settings)
        hidden = hidden_voxels(volume, options)
        grid, known, back, notes = self._grid(volume, hidden, options, settings)
        affine = representation.affine_of(grid, settings, known)
        low, high = (float(affine.gain.flatten()[0] * v + affine.offset.flatten()[0]) for v in settings.valid_range)
        seen = representation.to_parts(known, grid, settings)
        chosen = torch.nonzero(~seen.flatten(1).all(1)).flatten()
        # Hidden values are replaced before anything looks at them.
        values = representation.to_parts(np.where(known, np.clip(grid.values(), low, high), 0), grid, settings)
        shape = (1, *representation.model_size(affine.size, settings))
        # CT: padding below air has no meaning.
        floor = AIR_HU if settings.kind == "ct" else -np.inf
        smooth = representation.to_parts(np.clip(harmonic(grid, ~known, floor).values(), low, high), grid, settings)
        start = affine.to_model(smooth[chosen].float(), shape[1:], representation.AIR)
        first = min(options.start_level, model.sigma_max)
        seen, values = seen[chosen], values[chosen].float()
        problem = Problem.on_item(
            Mask(seen, tuple(seen.shape[1:])),
            values,
            0.0,
            Replacement(),
            affine,
            shape,
            settings.valid_range,
            representation.AIR,
        )
        return Assignment(
            shape=(len(chosen), *shape),
            finish=_Filled(volume, hidden, grid, chosen, affine, settings, back),
            problem=problem,
            start=Noised(start),
            levels=lambda steps: geometric(steps, first, min(STOP, first / 4)),
            panels={"input": volume},
            mark=hidden,
            baselines={
                "mean": lambda: with_mean(volume, hidden, floor),
                "smooth": lambda: harmonic(volume, hidden, floor),
            },
            notes=(*volume.notes, *notes),
        )

    def _grid(
        self, volume: Volume, hidden: Array, options: InpaintOptions, settings: VolumeSettings
    ) -> tuple[Volume, Array, Callable[[Array], Array], tuple[str, ...]]:
        """The scan to work on, its known voxels, the way back to the input's grid, and what to say about it."""
        if not options.resample:
            representation.check_spacing(volume, settings)
        grid, known, notes = volume, ~hidden, []
        back: Callable[[Array], Array] = _same
        if not representation.spacing_fits(volume, settings):
            resampling = Resampling.to_model(volume, settings)
            grid, known = resampling.forward(~hidden)
            back = partial(resampling.backward, where=hidden)
            if bool(known.all()):
                raise UserError(f"{representation.name_of(volume)}: the hole is smaller than one voxel of the model")
            notes.append(
                "the hole was filled on the model's voxel size and interpolated back; all other voxels are as stored"
            )
        if settings.dims == 3:
            window = around(~known, representation.layout(grid, settings).to_stored(np.array(settings.size)))
            back = _Pasted(grid, window, back)
            grid, known = grid.part(window), known[window]
        return grid, known, back, tuple(notes)


def _same(values: Array) -> Array:
    return values


@dataclass(frozen=True)
class _Pasted:
    """Values of a window, in their place in the whole grid, and on from there."""

    grid: Volume
    window: tuple[slice, ...]
    back: Callable[[Array], Array]

    def __call__(self, values: Array) -> Array:
        whole = self.grid.values()
        whole[self.window] = values
        return self.back(whole)


def with_mean(volume: Volume, hidden: Array, floor: float = -np.inf) -> Volume:
    """The scan with the mean of its known voxels, air included, in every hidden one; those below ``floor`` count as it."""
    known = np.maximum(volume.values()[~hidden], floor)
    return volume.with_replaced(hidden, np.full(volume.shape, known.mean(dtype=np.float64)))


def around(hidden: Array, size: Array) -> tuple[slice, ...]:
    """The window that a 3D model looks at: its own ``size`` per stored axis, centred on the hole as far as the scan
    reaches; larger where the hole leaves less than a quarter of the size as context on either side."""
    window = []
    for axis, n in enumerate(hidden.shape):
        found = np.flatnonzero(hidden.any(tuple(a for a in range(3) if a != axis)))
        first, last = int(found[0]), int(found[-1]) + 1
        wide = min(n, max(int(size[axis]), last - first + int(size[axis]) // 2))
        start = min(max((first + last - wide) // 2, 0), n - wide)
        window.append(slice(start, start + wide))
    return tuple(window)


def hidden_voxels(volume: Volume, options: InpaintOptions) -> Array:
    """(I, J, K) bool, true where the scan is to be filled.

    Raises:
        UserError: the mask does not fit the scan; nothing, or everything, is hidden.
    """
    hidden = np.zeros(volume.shape, bool)
    if options.mask is not None:
        hidden |= load_mask(options.mask, volume)
        if not hidden.any():
            raise UserError(f"{options.mask}: the mask is 0 everywhere; expected some voxels to fill")
    if options.box is not None:
        inside = in_box(volume, options.box)
        if not inside.any():
            low, high = extent(volume)
            raise UserError(
                f"--box {','.join(f'{v:g}' for v in options.box)}: no voxel lies in it; the scan reaches from "
                f"{low.round(1).tolist()} to {high.round(1).tolist()} mm"
            )
        hidden |= inside
    if hidden.all():
        raise UserError(f"{representation.name_of(volume)}: every voxel is hidden; expected some to be known")
    return hidden


def in_box(volume: Volume, box: tuple[float, ...]) -> Array:
    """(I, J, K) bool: voxels whose centres lie in the box between two opposite corners, world mm."""
    low, high = np.minimum(box[:3], box[3:]), np.maximum(box[:3], box[3:])
    inside = np.ones(volume.shape, bool)
    i, j, k = np.ogrid[tuple(slice(n) for n in volume.shape)]
    for axis in range(3):
        a = volume.affine[axis]
        world = (a[0] * i + a[1] * j + a[2] * k + a[3]).astype(np.float32)
        # Centres on the border count, whatever float32 makes of them.
        inside &= (world >= low[axis] - 1e-3) & (world <= high[axis] + 1e-3)
    return inside


def extent(volume: Volume) -> tuple[Array, Array]:
    """The smallest and largest world coordinates of voxel centres, mm."""
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*(n - 1 for n in volume.shape), 1]
    world = (corners @ volume.affine.T)[:, :3]
    return world.min(0), world.max(0)
