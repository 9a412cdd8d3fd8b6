"""Axes and spacing: from stored order to a model's plane by permuting and flipping alone, and exactly back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from nibabel import affines, orientations

from cmmulti.errors import UserError
from modalities.volume.item import Array, Volume

Plane = Literal["axial", "coronal", "sagittal"]

AXES: dict[Plane, tuple[str, str, str]] = {
    "axial": ("S", "P", "L"),
    "coronal": ("A", "I", "L"),
    "sagittal": ("R", "I", "P"),
}
"""Where each axis (slice, row, column) of a model's tensor points. Row 0 is the picture's top and column 0 its left, in
radiological display: the patient's left on the viewer's right."""


@dataclass(frozen=True)
class Layout:
    """How the axes of one scan map to a model's (slice, row, column); oblique scans go to the nearest axes.

    Args:
        affine: (4, 4) of the stored axes. plane: which slices the model sees; a 3D model sees the axial order.
    """

    affine: Array
    plane: Plane = "axial"

    def apply(self, stored: Array) -> Array:
        """(I, J, K) -> (slice, row, column), a view."""
        return orientations.apply_orientation(stored, self._transform())

    def undo(self, model: Array) -> Array:
        """(slice, row, column) -> (I, J, K), a view; the exact inverse."""
        return orientations.apply_orientation(model, orientations.ornt_transform(self._wanted(), self._present()))

    def voxel_mm(self) -> tuple[float, float, float]:
        """Spacing along (slice, row, column)."""
        slices, rows, columns = affines.voxel_sizes(self.affine)[np.argsort(self._transform()[:, 0])]
        return float(slices), float(rows), float(columns)

    def to_stored(self, values: Array) -> Array:
        """One number per (slice, row, column) axis -> one per stored axis."""
        return np.asarray(values)[self._transform()[:, 0].astype(int)]

    def model_affine(self, shape: tuple[int, ...]) -> Array:
        """(4, 4) from (slice, row, column) indices to world mm, for stored axes of ``shape``."""
        return self.affine @ orientations.inv_ornt_aff(self._transform(), shape)

    def one_slice(self, volume: Volume, index: int) -> Volume:
        """Slice ``index`` of a scan of this layout as a scan of its own, where it lies in the world."""
        return self.slab(volume, index, 1)

    def slab(self, volume: Volume, first: int, count: int) -> Volume:
        """Slices ``first .. first + count - 1`` as a scan of their own, where they lie in the world."""
        transform = self._transform()
        axis = int(np.argmin(transform[:, 0]))
        stored = first if transform[axis, 1] > 0 else volume.shape[axis] - first - count
        window = [slice(0, n) for n in volume.shape]
        window[axis] = slice(stored, stored + count)
        return volume.part(tuple(window))

    def _present(self) -> Array:
        return orientations.io_orientation(self.affine)

    def _wanted(self) -> Array:
        return orientations.axcodes2ornt(AXES[self.plane])

    def _transform(self) -> Array:
        return orientations.ornt_transform(self._present(), self._wanted())


def reordered(volume: Volume, like: Volume) -> Volume:
    """The scan with its axes stored in the order and the directions of those of ``like``; the same place in the world."""
    present, wanted = (orientations.io_orientation(v.affine) for v in (volume, like))
    transform = orientations.ornt_transform(present, wanted)
    return replace(
        volume,
        data=orientations.apply_orientation(volume.data, transform),
        affine=volume.affine @ orientations.inv_ornt_aff(transform, volume.shape),
    )


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether voxels of equal indices lie in the same place: axes alike within 1 %, centres within half a voxel."""
    if a.shape != b.shape:
        return False
    axes = np.linalg.norm(a.affine[:3, :3] - b.affine[:3, :3], axis=0) <= 0.01 * b.voxel_mm
    centres = [affines.apply_affine(v.affine, (np.array(v.shape) - 1) / 2) for v in (a, b)]
    # A displacement of just half a voxel counts, whatever rounding makes of it.
    return bool(axes.all() and (np.abs(np.linalg.solve(b.affine[:3, :3], centres[0] - centres[1])) <= 0.501).all())


T = TypeVar("T", int, float)


def to_ras(values: Sequence[T], plane: Plane) -> tuple[T, T, T]:
    """What belongs to (slice, row, column) of ``plane``, in the order (left-right, front-back, foot-head)."""
    x, y, z = (
        next(v for v, letter in zip(values, AXES[plane], strict=True) if letter in pair) for pair in ("RL", "AP", "SI")
    )
    return x, y, z


def checked_affine(path: Path, affine: Array, told: str = "") -> Array:
    """The affine, refused unless it is finite with voxels of 0.001 to 1000 mm whose axes span space; ``told`` ends the
    message."""
    finite = bool(np.isfinite(affine).all()) and bool((np.abs(affine) < 1e6).all())
    mm = affines.voxel_sizes(affine) if finite else np.zeros(3)
    flat = not finite or bool((mm < 1e-3).any()) or bool((mm > 1e3).any())
    if flat or abs(np.linalg.det(affine[:3, :3] / mm)) < 1e-2:
        raise UserError(
            f"{path}: no usable geometry: affine {np.round(affine[:3], 4).tolist()}; expected voxels of 0.001 to 1000 mm "
            f"along three directions{told}"
        )
    return affine


def apart_mm(a: Array, b: Array, shape: Sequence[int]) -> float:
    """The largest distance between the corners of two grids of ``shape`` with affines (4, 4) a and b."""
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*shape, 1]
    return float(np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).max())


def own_affine(shape: Sequence[int], voxel_mm: Sequence[float]) -> Array:
    """The affine of a generated scan stored in RAS order: axis-aligned, world origin at its centre."""
    affine = np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * np.array(voxel_mm)
    return affine
