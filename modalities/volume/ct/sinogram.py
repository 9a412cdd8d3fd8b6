"""Parallel-beam sinograms: the measured item of the task ``ct``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmmulti.errors import UserError
from cmmulti.files import write_arrays
from modalities.volume.item import Array, Stated
from modalities.volume.metrics import MU_WATER
from modalities.volume.mri.kspace import measured_affine
from modalities.volume.npz import read_npz

PHOTONS = (10.0, 1e12)
"""Fewest and most unattenuated photons per bin and view that noise is modelled for; the most are as good as none."""

LEAST_SPAN = 7.0
"""Degrees: views over less, a turn in radians included, are no tomography."""


@dataclass(frozen=True)
class Sinogram:
    """Line integrals of a stack of slices.

    Args:
        sinogram: float32 (slices, views, bins), ``-ln(I / I0)``. angles_deg: float64 (views,); at 0 rays run down the
            picture's columns and bins count from left to right, at 90 along its rows and bins count from top to bottom.
        bin_mm: width of a bin; the detector is centred on the image.
        size: (rows, columns) of the picture, None where the file does not say.
        affine: float64 (4, 4), voxel (row, column, slice) -> world RAS+ mm. stated: how much of it the file says.
        photons: I0, unattenuated photons per bin and view; None where the file does not say.
        mu_water: attenuation of water, 1/mm: what 0 HU is.
        notes: what the reader of a result should know.
    """

    sinogram: Array
    angles_deg: Array
    bin_mm: float
    size: tuple[int, int] | None
    affine: Array
    photons: float | None = None
    mu_water: float = MU_WATER
    notes: tuple[str, ...] = ()
    stated: Stated = "affine"


def load_sinogram(path: Path) -> Sinogram:
    """Read ``sinogram``, ``angles_deg``, ``bin_mm`` and, where there are, ``affine`` or ``voxel_mm``, ``size``,
    ``photons`` and ``mu_water``.

    Raises:
        UserError: anything missing, damaged, not finite, of a wrong kind or of shapes that do not fit each other.
    """
    number = "fiu"
    arrays = read_npz(
        path,
        {"sinogram": "f", "angles_deg": number, "bin_mm": number},
        {"affine": number, "voxel_mm": number, "size": "iu", "photons": number, "mu_water": number},
    )
    sinogram, angles = arrays["sinogram"], arrays["angles_deg"].astype(np.float64)
    if sinogram.ndim != 3 or min(sinogram.shape) < 1 or sinogram.shape[2] < 8:
        raise UserError(f"{path}: sinogram has shape {sinogram.shape}; expected (slices, views, bins), at least 8 bins")
    if angles.shape != sinogram.shape[1:2]:
        raise UserError(
            f"{path}: angles_deg has shape {angles.shape}; expected ({sinogram.shape[1]},), one per view of sinogram"
        )
    if np.abs(sinogram).max() > 1e3:
        raise UserError(
            f"{path}: sinogram reaches {np.abs(sinogram).max():.3g}; expected line integrals -ln(I/I0), about 0-10"
        )
    if np.abs(angles).max() > 3600:
        raise UserError(f"{path}: angles_deg reaches {np.abs(angles).max():.3g}; expected degrees, within 3600 of 0")
    span = float(np.ptp(angles))
    if 0 < span < LEAST_SPAN:
        raise UserError(
            f"{path}: angles_deg span {span:.3g} degrees; expected degrees over about 180, not radians (see np.rad2deg)"
        )
    size = arrays.get("size")
    if size is not None and (size.shape != (2,) or not ((size >= 8) & (size <= 4096)).all()):
        raise UserError(f"{path}: size is {size.tolist()}; expected (rows, columns), each from 8 to 4096")
    photons = arrays.get("photons")
    affine, stated, notes = measured_affine(path, arrays.get("affine"), arrays.get("voxel_mm"))
    return Sinogram(
        sinogram.astype(np.float32),
        angles,
        _number(path, "bin_mm", arrays["bin_mm"], 1e-3, 1e3, "mm"),
        None if size is None else (int(size[0]), int(size[1])),
        affine,
        None if photons is None else _number(path, "photons", photons, *PHOTONS, "per bin and view"),
        _number(path, "mu_water", arrays["mu_water"], 0.005, 0.1, "per mm") if "mu_water" in arrays else MU_WATER,
        notes,
        stated,
    )


def save_sinogram(item: Sinogram, path: Path) -> Path:
    """Write the form that :func:`load_sinogram` reads; raises UserError where it cannot be written."""
    arrays = {
        "sinogram": item.sinogram,
        "angles_deg": item.angles_deg,
        "bin_mm": np.array(item.bin_mm),
        "affine": item.affine,
        "voxel_mm": np.linalg.norm(item.affine[:3, :3], axis=0),
        "mu_water": np.array(item.mu_water),
    }
    if item.size is not None:
        arrays["size"] = np.array(item.size)
    if item.photons is not None:
        arrays["photons"] = np.array(item.photons)
    return write_arrays(path, arrays)


def _number(path: Path, name: str, value: Array, least: float, most: float, unit: str) -> float:
    if value.shape not in ((), (1,)) or not least <= float(value.reshape(())) <= most:
        raise UserError(f"{path}: {name} is {value.tolist()}; expected one number from {least:g} to {most:g} {unit}")
    return float(value.reshape(()))
