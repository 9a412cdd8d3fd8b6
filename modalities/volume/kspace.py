"""Single-coil Cartesian k-space: the measured item of the task ``mri``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmmulti.errors import UserError
from modalities.volume.npz import read_npz, write_npz


@dataclass(frozen=True)
class KSpace:
    """Measured k-space of a stack of slices.

    Args:
        kspace: complex64 (slices, ky, kx), orthonormal, zero frequency at ``n // 2``, zero where not measured. Rows of the
            picture are ky, columns are kx.
        mask: bool (kx), the measured columns.
        affine: float64 (4, 4), voxel (ky, kx, slice) -> world RAS+ mm of the image.
    """

    kspace: np.ndarray
    mask: np.ndarray
    affine: np.ndarray

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Voxel size along ky, kx and slices."""
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(sizes[0]), float(sizes[1]), float(sizes[2])


def load_kspace(path: Path) -> KSpace:
    """Read ``kspace`` complex (slices, ky, kx), ``mask`` (kx) and, where there are, ``affine`` (4, 4) or ``voxel_mm``.

    Without an affine the voxels are axis-aligned and of ``voxel_mm`` (3 values or 1; default 1 mm).

    Raises:
        UserError: anything missing, damaged, not finite, of a wrong kind or of shapes that do not fit each other.
    """
    arrays = read_npz(path, {"kspace": "c", "mask": "buif"}, {"affine": "fiu", "voxel_mm": "fiu"})
    kspace, mask = arrays["kspace"], arrays["mask"]
    if kspace.ndim != 3 or min(kspace.shape) < 1:
        raise UserError(f"{path}: kspace has shape {kspace.shape}; expected (slices, ky, kx)")
    if min(kspace.shape[1:]) < 8:
        raise UserError(f"{path}: kspace has shape {kspace.shape}; expected at least 8 samples along ky and kx")
    if mask.shape != kspace.shape[2:]:
        raise UserError(f"{path}: mask has shape {mask.shape}; expected ({kspace.shape[2]},), one value per kx of kspace")
    if not np.isin(mask, (0, 1)).all():
        raise UserError(f"{path}: mask holds values other than 0 and 1; expected 1 where a column is measured")
    mask = mask.astype(bool)
    if not mask[len(mask) // 2]:
        raise UserError(
            f"{path}: mask leaves out column {len(mask) // 2}, the zero frequency; expected a fully sampled centre, from "
            "which the phase is estimated"
        )
    affine = measured_affine(path, arrays.get("affine"), arrays.get("voxel_mm"))
    # Single precision could not hold the squares of sums of larger ones.
    if max(np.abs(kspace.real).max(), np.abs(kspace.imag).max()) > 1e30:
        raise UserError(f"{path}: kspace holds values above 1e30; expected numbers that single precision can work with")
    kspace = np.where(mask, kspace, 0).astype(np.complex64)
    if not kspace.any():
        raise UserError(f"{path}: kspace is zero at every measured column; expected measurements")
    return KSpace(kspace, mask, affine)


def save_kspace(item: KSpace, path: Path) -> Path:
    """Write the form that :func:`load_kspace` reads."""
    return write_npz(
        path, {"kspace": item.kspace, "mask": item.mask, "affine": item.affine, "voxel_mm": np.array(item.voxel_mm)}
    )


def measured_affine(path: Path, affine: np.ndarray | None, voxel_mm: np.ndarray | None) -> np.ndarray:
    """(4, 4) of a measurement: ``affine`` where it is given, else the diagonal of ``voxel_mm``, else 1 mm.

    Raises:
        UserError: wrong shape, sizes that are not positive, or an affine that cannot be inverted.
    """
    if affine is None:
        sizes = np.asarray(1.0 if voxel_mm is None else voxel_mm, dtype=np.float64)
        if sizes.shape not in ((), (1,), (3,)) or not (sizes > 0).all():
            raise UserError(f"{path}: voxel_mm is {sizes.tolist()}; expected 1 or 3 sizes above 0 mm")
        return np.diag([*np.broadcast_to(sizes, 3), 1.0])
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.allclose(affine[3], (0, 0, 0, 1)):
        raise UserError(f"{path}: affine has shape {affine.shape}; expected (4, 4) with last row 0 0 0 1")
    if not abs(np.linalg.det(affine[:3, :3])) > 1e-9:
        raise UserError(f"{path}: affine cannot be inverted; expected three independent axes in mm")
    return affine
