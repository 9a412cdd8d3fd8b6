"""NIfTI-1 and NIfTI-2, plain or gzipped: header checked against the file before a voxel is read; nothing lost."""

from __future__ import annotations

import gzip
import io
import logging
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from cmmulti.errors import UserError
from modalities.volume.geometry import checked_affine
from modalities.volume.item import Array, Volume

MAX_VOXELS = 2**28
"""512 x 512 x 1024; float32 copies of more do not fit an ordinary machine's memory."""

MAX_RATIO = 1100
"""Deflate packs at most 1032 bytes into one: a header that promises more is lying."""

SUFFIXES = (".nii", ".nii.gz")

UNITS = {1: ("metres", 1000.0), 3: ("microns", 0.001)}
"""What a header's lengths are in, by its code, and mm per unit; every other code, unknown (0) included, is read as mm."""

_SLACK = 16  # bytes that may follow the data: alignment
_MAX_EXTENSIONS = 2**24  # bytes between header and data
_silent = logging.Logger("nibabel header checks", logging.CRITICAL + 1)


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> Volume:
    """The volume with its stored numbers.

    Raises:
        UserError: missing, truncated or damaged file; a header that promises more or less than the file holds; data that
            are not one 3D grid of finite real numbers; a geometry that is none.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise UserError(f"{path}: the file is empty; expected NIfTI")
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _parse(path, file, size)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _parse(path, unpacked, size * MAX_RATIO)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as NIfTI ({error})") from error


def _parse(path: Path, file: Any, limit: int) -> Volume:
    header = _header(path, file)
    shape, trailing = _shape(path, header)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UserError(f"{path}: voxels of type {dtype}; expected real numbers of at most 64 bits")
    start = _start(path, header)
    count = math.prod(shape)
    end = start + count * dtype.itemsize
    if end > limit:
        raise UserError(f"{path}: the header promises {shape} voxels of {dtype} ({end} bytes), the file cannot hold them")
    if count > MAX_VOXELS:
        raise UserError(f"{path}: {count} voxels {shape}; at most {MAX_VOXELS} are read")
    between = _exactly(path, file, start - header.sizeof_hdr, "header")
    _extensions(path, header, between)
    data = np.frombuffer(_exactly(path, file, count * dtype.itemsize, "data"), dtype)
    if len(file.read(_SLACK + 1)) > _SLACK:
        raise UserError(f"{path}: the file holds more than the {shape} voxels of {dtype} that its header promises")
    slope, inter = _scaling(path, header)
    volume = Volume(
        data.reshape(shape, order="F").astype(dtype.newbyteorder("="), copy=False),
        _affine(path, header),
        slope,
        inter,
        header=header,
        trailing=trailing,
        source=(path,),
        placed=bool(header["sform_code"] or header["qform_code"]),
    )
    _check_finite(path, volume)
    return volume


def _header(path: Path, file: Any) -> Any:
    first = file.read(4)
    sizes = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
    found = next((sizes[n] for order in ("little", "big") for n in sizes if int.from_bytes(first, order) == n), None)
    if found is None:
        raise UserError(
            f"{path}: neither NIfTI nor DICOM (it begins with {first!r}; expected NIfTI's header size, 348 or 540)"
        )
    block = first + file.read(found.sizeof_hdr - 4)
    if len(block) < found.sizeof_hdr:
        raise UserError(f"{path}: the file ends within the NIfTI header, after {len(block)} bytes")
    try:
        header = found(block, check=False)
        if header["magic"].item().rstrip(b"\x00\r\n\x1a") not in (b"n+1", b"n+2"):
            raise UserError(f"{path}: not a single-file NIfTI (magic {header['magic'].item()!r}, expected 'n+1' or 'n+2')")
        header.check_fix(logger=_silent, error_level=40)
    except (HeaderDataError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{path}: damaged NIfTI header ({error})") from error
    return header


def _shape(path: Path, header: Any) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """The three axes of the grid, and what trails them (ones alone)."""
    rank = int(header["dim"][0])
    if not 1 <= rank <= 7:
        raise UserError(f"{path}: damaged NIfTI header (dim[0] = {rank}, expected 1 to 7)")
    shape = tuple(int(n) for n in header["dim"][1 : rank + 1])
    if rank < 3 or any(n != 1 for n in shape[3:]):
        raise UserError(f"{path}: expected a 3D volume, got {rank}D {shape}; save one volume of it first")
    if any(n < 1 for n in shape):
        raise UserError(f"{path}: damaged NIfTI header (dimensions {shape}, expected positive numbers)")
    return (shape[0], shape[1], shape[2]), shape[3:]


def _start(path: Path, header: Any) -> int:
    """Where the data begin."""
    offset = float(header["vox_offset"])
    least = header.sizeof_hdr + 4
    # 0 stands for the place right behind the header.
    start = least if offset == 0 else offset
    if not (math.isfinite(start) and least <= start <= least + _MAX_EXTENSIONS and start == int(start)):
        raise UserError(f"{path}: damaged NIfTI header (data offset {offset:g}, expected {least} or a little more)")
    return int(start)


def _extensions(path: Path, header: Any, between: bytes) -> None:
    """Keep what lies between header and data, such as a DICOM or XML note."""
    if len(between) < 4 or between[0] == 0:
        return
    try:
        reader = header.exts_klass
        header.extensions = reader.from_fileobj(
            io.BytesIO(between[4:]), len(between) - 4, header.endianness != nib.volumeutils.native_code
        )
    except (HeaderDataError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged NIfTI header extension ({error})") from error


def _exactly(path: Path, file: BinaryIO, n: int, what: str) -> bytes:
    """``n`` bytes, in pieces, so that a short file costs no more memory than it has."""
    pieces, left = [], n
    while left:
        piece = file.read(min(left, 2**24))
        if not piece:
            raise UserError(f"{path}: the file is truncated: {n - left} of {n} bytes of its {what}")
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _scaling(path: Path, header: Any) -> tuple[float, float]:
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise UserError(f"{path}: damaged NIfTI header ({error})") from error
    slope, inter = 1.0 if slope is None else float(slope), float(inter or 0.0)
    if not 1e-30 < abs(slope) < 1e30 or abs(inter) > 1e30:
        raise UserError(f"{path}: damaged NIfTI header (scl_slope {slope:g}, scl_inter {inter:g})")
    return slope, inter


def _affine(path: Path, header: Any) -> Array:
    """sform where its code is set, else qform, else voxel sizes, in mm; refused where it is no geometry."""
    try:
        affine = _in_mm(header)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        raise UserError(f"{path}: damaged NIfTI header (qform: {error})") from error
    unit = _unit(header)[0]
    return checked_affine(path, affine, "" if unit == "mm" else f"; the header's unit is {unit} (xyzt_units)")


def _unit(header: Any) -> tuple[str, float]:
    """Name of the header's unit of length, and mm per unit."""
    return UNITS.get(int(header["xyzt_units"]) % 8, ("mm", 1.0))


def _in_mm(header: Any) -> Array:
    """(4, 4) from voxel index to world mm."""
    affine = np.array(header.get_best_affine(), np.float64)
    affine[:3] *= _unit(header)[1]
    return affine


def _in_unit(affine: Array, header: Any) -> Array:
    """(4, 4) in mm, in the header's own unit."""
    own = affine.copy()
    own[:3] /= _unit(header)[1]
    return own


def _check_finite(path: Path, volume: Volume) -> None:
    bad = int(volume.data.size - np.isfinite(volume.data).sum())
    if bad:
        raise UserError(f"{path}: {bad} voxels are NaN or infinite; expected finite numbers")
    largest = max(abs(float(v)) for v in (volume.data.min(), volume.data.max())) * abs(volume.slope) + abs(volume.inter)
    if largest > 1e30:
        raise UserError(f"{path}: voxels of up to {largest:.3g}; expected intensities or HU")


def image(volume: Volume) -> nib.Nifti1Image:
    """The NIfTI image of a volume: stored numbers, scaling, geometry codes, units and notes as they came.

    A volume without a header gets qform code 0 and sform code 2 ("aligned") and units of mm.
    """
    data = volume.data.reshape(*volume.shape, *volume.trailing)
    kind = nib.Nifti2Image if isinstance(volume.header, nib.Nifti2Header) else nib.Nifti1Image
    header = kind.header_class() if volume.header is None else volume.header.copy()
    made = kind(data, None, header, dtype=data.dtype)
    if volume.header is None:
        made.set_sform(volume.affine, code=2)
        made.header.set_xyzt_units("mm")
        made.header.set_zooms([*volume.voxel_mm, *[1.0] * len(volume.trailing)])
    elif not np.allclose(_in_mm(header), volume.affine, atol=1e-4):
        # A part of the scan, or a resampled one: the same codes and unit, another place.
        codes, affine = (int(header["qform_code"]), int(header["sform_code"])), _in_unit(volume.affine, header)
        made.set_qform(affine, code=codes[0])
        made.set_sform(affine, code=codes[1] or 2)
    if data.dtype.kind in "iu" or (volume.slope, volume.inter) != (1.0, 0.0):
        made.header.set_slope_inter(volume.slope, volume.inter)
    else:
        made.header.set_slope_inter(1.0, 0.0)
    return made


def encoded(volume: Volume, packed: bool = True) -> bytes:
    """The bytes of a ``.nii`` file, or of a ``.nii.gz``; the same volume gives the same bytes."""
    plain = image(volume).to_bytes()
    return gzip.compress(plain, compresslevel=6, mtime=0) if packed else plain
