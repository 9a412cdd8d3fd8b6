"""Volume <-> model tensor: orientation, intensity and padding, affine within the valid range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.operators.affine import Affine
from modalities.volume.geometry import Layout, own_affine, to_ras
from modalities.volume.item import Array, Volume
from modalities.volume.settings import VolumeSettings

AIR = -1.0
"""The padding's value in model space: air."""

GENERATED_PERCENTILE = 1000.0
"""What a generated MR scan, which has no units, stores at the percentile that is 1 in model space."""

MULTIPLE = 8
"""Sizes beyond the model's are rounded up to this."""


def layout(volume: Volume, settings: VolumeSettings) -> Layout:
    return Layout(volume.affine, settings.plane)


def intensity(values: Array, settings: VolumeSettings, name: str = "volume") -> tuple[float, float]:
    """Gain and offset of ``value = gain * x + offset``; MR: from the ``values`` given, which may be the known ones alone.

    Raises:
        UserError: an MR scan with nothing but zeros, or one whose values are no magnitudes.
    """
    if settings.kind == "ct":
        low, high = settings.window
        return (high - low) / 2, (high + low) / 2
    seen = values[values != 0]
    if not len(seen):
        raise UserError(f"{name}: expected an MR scan, every voxel that may be used is 0")
    low, high = np.percentile(seen, [2, settings.percentile])
    if high <= 0 or low < -0.2 * high:
        raise UserError(
            f"{name}: expected MR magnitudes (air 0, tissue above), but 2 % of the non-zero voxels lie below {low:.4g} "
            f"and the {settings.percentile:g}th percentile is {high:.4g}"
        )
    return float(high) / 2, float(high) / 2


def check_spacing(
    volume: Volume,
    settings: VolumeSettings,
    name: str | None = None,
    advice: str = "resample the scan first, or let the task do it with --resample",
) -> None:
    """Refuse a scan whose voxels are not the model's; ``name`` stands for it where it has no file of its own.
    ``advice`` ends the message.

    Raises:
        UserError: with both spacings.
    """
    if not spacing_fits(volume, settings):
        present = layout(volume, settings).voxel_mm()[-settings.dims :]
        raise UserError(
            f"{name or name_of(volume)}: voxels of {_mm(present)} (along {_axes(settings)}), but the model was trained at "
            f"{_mm(settings.voxel_mm)} and takes at most {100 * settings.tolerance:g} % difference; {advice}"
        )


def spacing_fits(volume: Volume, settings: VolumeSettings) -> bool:
    """Whether the scan's voxels are the model's, within its tolerance, along the axes that the model sees."""
    present = layout(volume, settings).voxel_mm()[-settings.dims :]
    return all(abs(p / m - 1) <= settings.tolerance for p, m in zip(present, settings.voxel_mm, strict=True))


def check_kind(volume: Volume, settings: VolumeSettings) -> None:
    """Refuse a scan that says it is of another kind than the model's."""
    if volume.kind is not None and volume.kind != settings.kind:
        raise UserError(f"{name_of(volume)}: is {volume.kind.upper()}, expected {settings.kind.upper()} for this model")


def model_size(size: Sequence[int], settings: VolumeSettings) -> tuple[int, ...]:
    """The tensor's spatial size for an item of ``size``: the model's own, or the next multiple of 8 above the item."""
    return tuple(m if n <= m else -(-n // MULTIPLE) * MULTIPLE for n, m in zip(size, settings.size, strict=True))


def placed(size: Sequence[int], gain: float, offset: float, settings: VolumeSettings) -> Affine:
    """The affine map of an item of spatial ``size`` (model order), centred in the tensor."""
    whole = model_size(size, settings)
    before = tuple((w - n) // 2 for w, n in zip(whole, size, strict=True))
    one = (1, 1, *[1] * settings.dims)
    return Affine(torch.full(one, gain), torch.full(one, offset), tuple(size), before)


def to_parts(stored: Array, volume: Volume, settings: VolumeSettings) -> Tensor:
    """Any array on the stored grid (I, J, K) -> (parts, 1, *spatial): slices of the plane, or the volume as one part."""
    ordered = np.ascontiguousarray(layout(volume, settings).apply(stored))
    tensor = torch.from_numpy(ordered)
    return tensor[:, None] if settings.dims == 2 else tensor[None, None]


def from_parts(parts: Tensor, volume: Volume, settings: VolumeSettings) -> Array:
    """The inverse of :func:`to_parts`."""
    ordered = parts[:, 0] if settings.dims == 2 else parts[0, 0]
    return layout(volume, settings).undo(ordered.cpu().numpy())


def affine_of(volume: Volume, settings: VolumeSettings, known: Array | None = None) -> Affine:
    """The affine map of a scan; MR: normalised by its ``known`` voxels (I, J, K) bool alone, by all when None."""
    values = volume.values()
    gain, offset = intensity(values if known is None else values[known], settings, name_of(volume))
    ordered = layout(volume, settings).apply(volume.data)
    return placed(ordered.shape[-settings.dims :], gain, offset, settings)


def encode(volume: Volume, settings: VolumeSettings) -> Tensor:
    """(parts, 1, *spatial) float32 in model space, padded with air and clamped to the valid range.

    Raises:
        UserError: another kind of scan, or another spacing than the model's.
    """
    check_kind(volume, settings)
    check_spacing(volume, settings)
    affine = affine_of(volume, settings)
    values = to_parts(volume.values(), volume, settings)
    return affine.to_model(values, model_size(affine.size, settings), AIR).clamp(*settings.valid_range)


def decode(x: Tensor, settings: VolumeSettings, like: Volume | None) -> Volume:
    """The scan of (parts, 1, *spatial), physical values as float32.

    ``like`` lends geometry and scale. Without it the scan is stored in RAS order with the model's spacing (slices of a
    2D model are as thick as its pixels are wide) and, for MR, the percentile at 1000.
    """
    x = x.detach().float().cpu().clamp(*settings.valid_range)
    if like is not None:
        return like.with_values(from_parts(affine_of(like, settings).to_item(x), like, settings))
    if settings.kind == "ct":
        gain, offset = intensity(np.empty(0), settings)
    else:
        gain = offset = GENERATED_PERCENTILE / 2
    voxel = settings.voxel_mm if settings.dims == 3 else (settings.voxel_mm[1], *settings.voxel_mm)
    empty = _blank(tuple(x.shape[2:]) if settings.dims == 3 else (len(x), *x.shape[2:]), voxel, settings)
    return empty.with_values(from_parts(gain * x + offset, empty, settings))


def name_of(volume: Volume) -> str:
    """The file or folder of a scan, for messages."""
    if not volume.source:
        return "volume"
    return str(volume.source[0] if len(volume.source) == 1 else volume.source[0].parent)


def _blank(shape: Sequence[int], voxel: Sequence[float], settings: VolumeSettings) -> Volume:
    """A scan in RAS order whose model order has ``shape`` and ``voxel``; its data is one byte repeated."""
    stored, mm = to_ras(shape, settings.plane), to_ras(voxel, settings.plane)
    return Volume(np.broadcast_to(np.uint8(0), stored), own_affine(stored, mm), kind=settings.kind)


def _mm(values: Sequence[float]) -> str:
    return " x ".join(f"{v:.3g}" for v in values) + " mm"


def _axes(settings: VolumeSettings) -> str:
    return "slices, rows, columns" if settings.dims == 3 else f"rows, columns of {settings.plane} slices"
