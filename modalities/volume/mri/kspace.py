"""Cartesian k-space of one coil or several: the measured item of the task ``mri``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmmulti.errors import UserError
from cmmulti.files import write_arrays
from modalities.volume.geometry import checked_affine
from modalities.volume.item import Array, Stated
from modalities.volume.npz import read_npz

LEAST, MOST = 1e-12, 1e15
"""Of the largest value of k-space: what single precision can work with."""

ASSUMED = "its rows were taken to count to the patient's right, its columns to the front"
"""Of a measurement without an affine."""

HINT = "--orientation says how it lies: models know scans that are upright"
"""To whom it is assumed."""


@dataclass(frozen=True)
class KSpace:
    """Measured k-space of a stack of slices.

    Args:
        kspace: complex64 (slices, coils, ky, kx), orthonormal, zero frequency at ``n // 2``, zero where not measured.
            Rows of the picture are ky, columns are kx.
        mask: bool, the measured columns (kx), or points (ky, kx).
        affine: float64 (4, 4), voxel (ky, kx, slice) -> world RAS+ mm of the image. stated: how much of it the file says.
        sensitivities: complex64 (slices, coils, ky, kx) of the coils, with a root sum of squares of 1, or 0 where they are
            not known; None: the task estimates them.
        notes: what the reader of a result should know.
    """

    kspace: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    notes: tuple[str, ...] = ()
    stated: Stated = "affine"
    sensitivities: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.kspace.ndim != 4:
            raise UserError(f"kspace has shape {self.kspace.shape}; expected (slices, coils, ky, kx), 1 coil for one")

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Voxel size along ky, kx and slices."""
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(sizes[0]), float(sizes[1]), float(sizes[2])


def load_kspace(path: Path) -> KSpace:
    """Read ``kspace`` complex (slices, ky, kx) or (slices, coils, ky, kx), ``mask`` (kx) or (ky, kx) and, where there are,
    ``affine`` (4, 4) or ``voxel_mm``, and ``sensitivities``, complex and of the shape of ``kspace``.

    Without an affine the voxels are axis-aligned and of ``voxel_mm`` (3 values or 1; default 1 mm). Columns (under a mask
    of points: points) that are 0 in every slice, as scanners leave what they fill up with zeros, count as not measured,
    whatever the mask says.

    Raises:
        UserError: anything missing, damaged, not finite, of a wrong kind or of shapes that do not fit each other.
    """
    optional = {"affine": "fiu", "voxel_mm": "fiu", "sensitivities": "c"}
    arrays = read_npz(path, {"kspace": "c", "mask": "buif"}, optional)
    return checked_kspace(path, **arrays)


def check_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse what is neither (slices, ky, kx) nor (slices, coils, ky, kx), or too small for an image."""
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise UserError(f"{path}: kspace has shape {shape}; expected (slices, ky, kx) or (slices, coils, ky, kx)")
    if min(shape[-2:]) < 8:
        raise UserError(f"{path}: kspace has shape {shape}; expected at least 8 samples along ky and kx")


def checked_kspace(
    path: Path,
    kspace: Array,
    mask: Array | None = None,
    affine: Array | None = None,
    voxel_mm: Array | None = None,
    sensitivities: Array | None = None,
) -> KSpace:
    """What a file holds, refused or made whole as :func:`load_kspace` says.

    Args:
        path: the file, for messages. kspace: finite, is changed in place: 0 where the mask says so.
        mask: None takes every column as measured that is not 0 in every slice.

    Raises:
        UserError: shapes that do not fit each other, or values that are none.
    """
    check_shape(path, kspace.shape)
    ny, nx = kspace.shape[-2:]
    if mask is not None and mask.shape not in ((nx,), (ny, nx)):
        raise UserError(
            f"{path}: mask has shape {mask.shape}; expected ({nx},), one value per kx of kspace, or ({ny}, {nx})"
        )
    if mask is not None and not np.isin(mask, (0, 1)).all():
        raise UserError(f"{path}: mask holds values other than 0 and 1; expected 1 where k-space is measured")
    if mask is not None and mask.ndim == 2 and (mask == mask[:1]).all():
        mask = mask[0]
    maps = sensitivities
    if maps is not None and maps.shape != kspace.shape:
        raise UserError(f"{path}: sensitivities have shape {maps.shape}; expected that of kspace, {kspace.shape}")
    if mask is not None:
        kspace[..., ~mask.astype(bool)] = 0
    spread = 1 if mask is None else mask.ndim
    measured = np.asarray(kspace.any(axis=tuple(range(kspace.ndim - spread))))
    claimed = measured if mask is None else mask.astype(bool)
    unit = "columns" if spread == 1 else "points"
    middle = (nx // 2,) if spread == 1 else (ny // 2, nx // 2)
    if not measured[middle]:
        what = f"{unit[:-1]} {', '.join(map(str, middle))}"
        left_out = "0 in every slice" if mask is None else "left out by the mask or 0 in every slice"
        raise UserError(
            f"{path}: {what}, the zero frequency, is {left_out}; expected a fully sampled centre, from which the phase is "
            "estimated"
        )
    check_size(kspace, str(path))
    placed, stated, notes = measured_affine(path, affine, voxel_mm)
    if affine is None:
        notes = (*notes, HINT)
    if empty := int((claimed & ~measured).sum()):
        told = f"{empty} of {int(claimed.sum())} {unit} that the mask says are measured are 0 in every slice"
        if spread == 1:
            first, last = np.flatnonzero(claimed & ~measured)[[0, -1]].tolist()
            told += f" (from column {first} to {last})"
        notes = (*notes, f"{told}: taken as not measured")
    if kspace.ndim == 3:
        kspace, maps = kspace[:, None], None if maps is None else maps[:, None]
    kspace = kspace.astype(np.complex64, copy=False)
    return KSpace(kspace, measured, placed, notes, stated, None if maps is None else _normalised(maps))


def _normalised(maps: Array) -> Array:
    """Maps with a root sum of squares of 1 over the coils, where it is above a millionth of its largest."""
    maps = maps.astype(np.complex128)
    size = np.sqrt((np.abs(maps) ** 2).sum(1, keepdims=True))
    return np.divide(maps, size, out=np.zeros_like(maps), where=size > 1e-6 * size.max()).astype(np.complex64)


def largest(kspace: Array) -> float:
    """The largest real or imaginary part, without its sign."""
    return max(float(max(part.max(), -part.min())) for part in (kspace.real, kspace.imag))


def check_size(kspace: Array, name: str) -> None:
    """Refuse values that single precision cannot work with, or none at all.

    Raises:
        UserError: with the largest value.
    """
    reached = largest(kspace)
    if reached == 0:
        raise UserError(f"{name}: kspace is zero at every measured column; expected measurements")
    if not LEAST <= reached <= MOST:
        raise UserError(f"{name}: kspace reaches {reached:.3g}; expected {LEAST:g} to {MOST:g}: give it another unit")


def save_kspace(item: KSpace, path: Path) -> Path:
    """Write the form that :func:`load_kspace` reads; raises UserError where it cannot be written."""
    arrays = {"kspace": item.kspace, "mask": item.mask, "affine": item.affine, "voxel_mm": np.array(item.voxel_mm)}
    if item.sensitivities is not None:
        arrays["sensitivities"] = item.sensitivities
    return write_arrays(path, arrays)


def measured_affine(path: Path, affine: Array | None, voxel_mm: Array | None) -> tuple[Array, Stated, tuple[str, ...]]:
    """(4, 4) of a measurement: ``affine`` where it is given, else the diagonal of ``voxel_mm``, else 1 mm; how much of it
    is stated, and what to tell about it.

    Raises:
        UserError: wrong shape, sizes that are not positive, or an affine that is no geometry.
    """
    if affine is None:
        sizes = np.asarray(1.0 if voxel_mm is None else voxel_mm, dtype=np.float64)
        if sizes.shape not in ((), (1,), (3,)) or not (sizes > 0).all():
            raise UserError(f"{path}: voxel_mm is {sizes.tolist()}; expected 1 or 3 sizes above 0 mm")
        stated: Stated = "nothing" if voxel_mm is None else "voxel_mm"
        told = "no affine and no voxel_mm: voxels of 1 mm were assumed, and" if stated == "nothing" else "no affine:"
        note = f"the measurement has {told} {ASSUMED}"
        return checked_affine(path, np.diag([*np.broadcast_to(sizes, 3), 1.0])), stated, (note,)
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.allclose(affine[3], (0, 0, 0, 1)):
        last = f", last row {affine[3].tolist()}" if affine.shape == (4, 4) else ""
        raise UserError(f"{path}: affine has shape {affine.shape}{last}; expected (4, 4) with last row 0 0 0 1")
    return checked_affine(path, affine), "affine", ()
