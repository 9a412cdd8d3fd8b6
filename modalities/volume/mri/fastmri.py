"""K-space in fastMRI's form: HDF5 with ``kspace``, ``mask`` and an ISMRMRD header."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from cmmulti.archives import check_memory
from cmmulti.errors import UserError
from cmmulti.operators.fourier import Fourier
from modalities.volume.item import Array
from modalities.volume.mri import hdf5, ismrmrd
from modalities.volume.mri.ismrmrd import Encoding
from modalities.volume.mri.kspace import MOST, KSpace, check_shape, check_size, checked_kspace, largest

SUFFIXES = (".h5", ".hdf5")


def load_fastmri(path: Path) -> KSpace:
    """Read ``kspace`` complex (slices, ky, kx) or (slices, coils, ky, kx), orthonormal and centred, and where there are,
    ``mask`` (kx) and ``ismrmrd_header``. Rows (ky) are the readout.

    The readout's oversampling is taken out: of the image's rows, those in the header's ``reconSpace`` are kept, around
    ``n // 2``. Columns stay as they are. Without a mask all columns count as measured that are not 0 in every slice. The
    header states the size of the voxels, not where they lie; without one the rows stay as well and voxels are of 1 mm.

    Raises:
        UserError: anything missing, damaged, not finite, of a wrong kind or of shapes that do not fit each other; links,
            and data in other files.
    """
    with hdf5.opened(path) as file:
        found = hdf5.dataset(path, file, "kspace", "c")
        if found is None:
            raise UserError(f"{path}: no dataset 'kspace'; expected fastMRI's form, found {hdf5.names(path, file)}")
        check_shape(path, found.shape)
        mask, encoding = _mask(path, file, found.shape[-1]), _encoding(path, file)
        rows = found.shape[-2] if encoding is None else _rows(path, found.shape[-2], encoding)
        kspace = _read(path, found, rows)
        full = found.shape[-2:]
    voxel_mm = None
    if encoding is not None:
        voxel_mm = np.array([*(mm / n for mm, n in zip(encoding.encoded_mm, full, strict=True)), encoding.slice_mm])
    item = checked_kspace(path, kspace, mask, voxel_mm=voxel_mm)
    return replace(item, notes=(*item.notes, *_notes(item.mask, mask is not None, full[0], rows, encoding)))


def without_oversampling(kspace: Tensor, rows: int) -> Tensor:
    """K-space (coils, ky, kx) of the ``rows`` central rows of its image (coils, rows, kx), around ``ky // 2``."""
    coils, ky, kx = kspace.shape
    first = ky // 2 - rows // 2
    image = Fourier((coils, kx, ky), dims=1).adjoint(kspace.mT[None])
    return Fourier((coils, kx, rows), dims=1)(image[..., first : first + rows])[0].mT


def _encoding(path: Path, file: h5py.File) -> Encoding | None:
    found = hdf5.dataset(path, file, "ismrmrd_header", "SO")
    return None if found is None else ismrmrd.parsed(path, hdf5.text(path, found, ismrmrd.LARGEST))


def _mask(path: Path, file: h5py.File, columns: int) -> Array | None:
    found = hdf5.dataset(path, file, "mask", "buif")
    if found is None:
        return None
    if found.size != columns:
        raise UserError(f"{path}: mask has shape {found.shape}; expected ({columns},), one value per column of kspace")
    return hdf5.whole(path, found).reshape(columns)


def _rows(path: Path, rows: int, encoding: Encoding) -> int:
    """How many of the image's rows lie in the field of view without oversampling."""
    if rows != encoding.rows:
        raise UserError(
            f"{path}: kspace has {rows} rows, and in its ismrmrd_header encodedSpace/matrixSize/x is {encoding.rows}; "
            "expected as many: how far the image's rows reach cannot be told"
        )
    kept = min(rows, round(rows * encoding.readout_mm / encoding.encoded_mm[0]))
    if kept < 8:
        told = f"{encoding.readout_mm:g} of {encoding.encoded_mm[0]:g} mm along the readout"
        raise UserError(f"{path}: ismrmrd_header keeps {told}, {kept} of {rows} rows; expected at least 8")
    return kept


def _read(path: Path, found: h5py.Dataset, rows: int) -> Array:
    """(slices, coils, rows, columns) complex64 of a checked dataset, slice by slice."""
    shape = (found.shape[0], found.shape[1] if len(found.shape) == 4 else 1, rows, found.shape[-1])
    check_memory(path, f"kspace of shape {shape}", 8 * int(np.prod(shape)))
    kspace = np.empty(shape, np.complex64)
    for number, part in enumerate(hdf5.parts(path, found)):
        if not np.isfinite(part).all():
            raise UserError(f"{path}: kspace holds NaN or infinity in slice {number}; expected finite numbers")
        if largest(part) > MOST:
            check_size(part, str(path))
        one = part.reshape(shape[1], *part.shape[-2:]).astype(np.complex64)
        kspace[number] = one if rows == one.shape[1] else without_oversampling(torch.from_numpy(one), rows)
    return kspace


def _notes(measured: Array, masked: bool, full: int, rows: int, encoding: Encoding | None) -> list[str]:
    """What was done to the measurement, and what its file does not say."""
    notes = []
    if encoding is None:
        notes.append("no ismrmrd_header: if the readout is oversampled, the image keeps the air on both sides")
    else:
        if rows < full:
            notes.append(f"oversampling of the readout was removed: {rows} of {full} rows, {encoding.readout_mm:g} mm")
        notes.append(f"slices of {encoding.slice_mm:g} mm: gaps between them are not stated")
    count, (first, last) = int(measured.sum()), np.flatnonzero(measured)[[0, -1]].tolist()
    if count == len(measured):
        notes.append(f"all {count} columns are measured: nothing is undersampled")
    elif count == last - first + 1:
        notes.append(f"columns {first} to {last} of {len(measured)} are measured, without a gap")
    elif not masked:
        notes.append(f"no mask: {count} of {len(measured)} columns are not 0 in every slice, taken as measured")
    return notes
