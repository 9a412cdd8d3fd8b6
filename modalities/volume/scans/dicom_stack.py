"""DICOM frames -> one volume: sorted by position along the normal, and refused where they make no regular grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from cmmulti.errors import UserError
from modalities.volume.geometry import checked_affine
from modalities.volume.item import Array, Kind, Volume
from modalities.volume.scans.dicom_frames import Frame
from modalities.volume.scans.nifti import MAX_VOXELS

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
GAP = 0.01
"""Largest relative difference between steps, and largest sideways part of a step; plus a hundredth of a millimetre, which
is how positions are often rounded."""


def stacked(frames: Sequence[Frame], source: Path) -> Volume:
    """The volume (columns, rows, slices) of one series.

    Raises:
        UserError: several series or kinds of frame, duplicates, gaps, unequal spacing, a tilted gantry.
    """
    if not frames:
        raise UserError(f"{source}: expected DICOM images, found none")
    _check_alike(frames, source)
    first = frames[0]
    if sum(f.pixels.size for f in frames) > MAX_VOXELS:
        raise UserError(f"{source}: {len(frames)} slices of {first.pixels.shape}; at most {MAX_VOXELS} voxels are read")
    normal = np.cross(first.along_row, first.along_column)
    frames = sorted(frames, key=lambda f: float(f.position @ normal))
    step, notes = _step(frames, normal, source)
    affine = np.eye(4)
    affine[:3, 0] = frames[0].along_row * first.spacing[1]
    affine[:3, 1] = frames[0].along_column * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = frames[0].position
    affine = checked_affine(source, LPS_TO_RAS @ affine)
    data, slope, inter = _numbers(frames)
    kind: Kind = "ct" if first.modality == "CT" else "mr"
    return Volume(
        data, affine, slope, inter, kind, _header(affine), source=tuple(dict.fromkeys(f.path for f in frames)), notes=notes
    )


def _check_alike(frames: Sequence[Frame], source: Path) -> None:
    first = frames[0]
    series = {f.series for f in frames}
    if len(series) > 1:
        raise UserError(f"{source}: {len(frames)} slices of {len(series)} series; expected one series (SeriesInstanceUID)")
    alike: dict[str, set[Any]] = {
        "modalities": {f.modality for f in frames},
        "sizes": {f.pixels.shape for f in frames},
        "pixel spacings": {tuple(round(v, 4) for v in f.spacing) for f in frames},
        "echoes, b-values or times": {f.group for f in frames},
    }
    for name, values in alike.items():
        if len(values) > 1:
            raise UserError(
                f"{source}: slices of {len(values)} different {name} in one series: {sorted(map(str, values))[:4]}"
            )
    for f in frames:
        if max(np.abs(f.along_row - first.along_row).max(), np.abs(f.along_column - first.along_column).max()) > 1e-3:
            raise UserError(f"{f.path}: turned against {first.path.name} of the same series; expected parallel slices")


def _step(frames: Sequence[Frame], normal: Array, source: Path) -> tuple[Array, tuple[str, ...]]:
    """The vector from one slice to the next, mm."""
    if len(frames) == 1:
        thickness = frames[0].thickness
        if thickness and 1e-3 < thickness < 1e3:
            return normal * thickness, ()
        return normal, ("a single slice without thickness: 1 mm is assumed",)
    steps = np.diff([f.position for f in frames], axis=0)
    along = steps @ normal
    for a, b, gap in zip(frames, frames[1:], along, strict=False):
        if gap < 1e-3:
            raise UserError(f"{source}: {a.path.name} and {b.path.name} lie at the same place; expected no duplicates")
    middle = float(np.median(along))
    if np.abs(along - middle).max() > GAP * middle + 0.01:
        worst = int(np.abs(along - middle).argmax())
        raise UserError(
            f"{source}: unequal slice spacing: {along[worst]:.4g} mm between {frames[worst].path.name} and "
            f"{frames[worst + 1].path.name}, {middle:.4g} mm elsewhere; expected equal steps (is a slice missing?)"
        )
    sideways = float(np.linalg.norm(steps - along[:, None] * normal, axis=1).max())
    if sideways > GAP * middle + 0.01:
        angle = np.degrees(np.arctan2(sideways, middle))
        raise UserError(
            f"{source}: slices shift sideways by {sideways:.3g} mm per step (gantry tilt of {angle:.1f} degrees); "
            "expected a stack at right angles to its slices; resample it first"
        )
    return (frames[-1].position - frames[0].position) / (len(frames) - 1), ()


def _numbers(frames: Sequence[Frame]) -> tuple[Array, float, float]:
    """(columns, rows, slices) stored integers with their scale; float32 values where slices differ in scale."""
    scales = {(f.slope, f.inter) for f in frames}
    if len(scales) == 1 and len({f.pixels.dtype for f in frames}) == 1:
        return np.stack([f.pixels.T for f in frames], axis=-1), frames[0].slope, frames[0].inter
    values = [(f.pixels.T * f.slope + f.inter).astype(np.float32) for f in frames]
    return np.stack(values, axis=-1), 1.0, 0.0


def _header(affine: Array) -> nib.Nifti1Header:
    """Scanner coordinates, mm."""
    header = nib.Nifti1Header()
    header.set_data_shape((1, 1, 1))
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    return header
