"""Disk <-> volume: NIfTI and DICOM in, NIfTI out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cmmulti.errors import UserError
from cmmulti.files import writing
from modalities.volume.geometry import apart_mm
from modalities.volume.item import Array, Volume
from modalities.volume.scans import dicom, nifti


def load(path: Path) -> Volume:
    """A NIfTI file, a DICOM file, or a folder that holds one DICOM series.

    Raises:
        UserError: it names the file and what is wrong with it.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected NIfTI (.nii, .nii.gz) or a DICOM series")
    if path.is_dir():
        return dicom.read_series(path)
    if not path.is_file():
        raise UserError(f"{path}: a device or pipe; expected NIfTI (.nii, .nii.gz) or a DICOM file")
    if dicom.is_dicom(path):
        return dicom.read_file(path)
    return nifti.read(path)


def load_mask(path: Path, volume: Volume) -> Array:
    """A mask (I, J, K) bool on the grid of ``volume``, true where the file is not 0.

    Raises:
        UserError: unreadable, of another shape or another geometry.
    """
    mask = load(path)
    if mask.shape != volume.shape:
        raise UserError(f"{path}: mask of {mask.shape} voxels; expected the volume's {volume.shape}")
    # Affines are stored as float32 and rounded differently by each tool; a twentieth of a voxel is the same grid.
    apart = apart_mm(mask.affine, volume.affine, volume.shape)
    if apart > 0.05 * volume.voxel_mm.min():
        raise UserError(f"{path}: the mask lies {apart:.3g} mm off the volume's grid; expected the same affine")
    return mask.values() != 0


def save(volume: Volume, path: Path) -> Path:
    """Write NIfTI, whole or not at all; the suffix is ``.nii`` where asked for, else ``.nii.gz``. Returns the file.

    Raises:
        UserError: the place cannot be written.
    """
    path = Path(path)
    if not nifti.is_nifti(path):
        path = path.with_name(path.name + ".nii.gz")
    content = nifti.encoded(volume, packed=path.name.lower().endswith(".gz"))
    with writing(path) as part:
        part.write_bytes(content)
    return path


def find(root: Path) -> Iterator[Path]:
    """Every NIfTI file below ``root``, and every folder that directly holds DICOM files, in order of their names."""
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        here = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        yield from (file for file in here if nifti.is_nifti(file))
        if any(dicom.is_dicom(file) for file in here):
            yield Path(folder)
