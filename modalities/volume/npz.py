"""Measurements in ``.npz`` archives: every size is checked against the file before a byte of data is read."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cmmulti.errors import UserError
from cmmulti.files import DAMAGED_ARCHIVE

_DEFLATE_LIMIT = 1032
"""No deflate stream grows by more than this factor."""


def read_npz(path: Path, required: Mapping[str, str], optional: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The named arrays of an archive.

    Args:
        required, optional: array name -> the kinds of number it may hold (numpy's ``dtype.kind`` letters); other arrays
            in the file are left alone. Pickled objects are never read.

    Raises:
        UserError: missing, empty or damaged file; a missing array; a wrong kind; a header that promises more than the
            file or the memory holds; NaN or infinity.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected an .npz archive with {', '.join(required)}")
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")}
            for name, kinds in {**required, **optional}.items():
                if name in members:
                    arrays[name] = _read_member(path, archive, members[name], name, kinds)
                elif name in required:
                    raise UserError(f"{path}: no array {name!r}; expected {', '.join(required)}, found {sorted(members)}")
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: not a readable .npz archive: {str(error) or type(error).__name__}") from error
    return arrays


def array_names(path: Path) -> set[str]:
    """Names of the arrays in an archive; nothing else of it is read.

    Raises:
        UserError: it is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: not a readable .npz archive: {str(error) or type(error).__name__}") from error


def _read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, kinds: str) -> np.ndarray:
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
        if dtype.kind not in kinds:
            raise UserError(f"{path}: {name} holds {dtype}; expected {_words(kinds)}")
        if any(n < 0 for n in shape):
            raise UserError(f"{path}: {name} has shape {shape}; expected sizes of at least 0")
        size = math.prod(shape) * dtype.itemsize
        room = min(info.compress_size, path.stat().st_size) * (_DEFLATE_LIMIT if info.compress_type else 1)
        if size > info.file_size or size > room:
            raise UserError(f"{path}: {name} promises {shape} values of {dtype}, more than the file holds")
        if size > physical_memory() // 4:
            raise UserError(f"{path}: {name} of shape {shape} needs {size >> 20} MiB, more than a quarter of the memory")
        data = stream.read(size)
        surplus = stream.read(1)  # reaching the end also checks the CRC
    if surplus:
        raise UserError(f"{path}: {name} holds more than the {size} bytes that its header says")
    if len(data) != size:
        raise UserError(f"{path}: {name} holds {len(data)} bytes; its header says {size}")
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    if dtype.kind in "fc" and not np.isfinite(array).all():
        raise UserError(f"{path}: {name} holds NaN or infinity; expected finite numbers")
    return array.copy()


def _words(kinds: str) -> str:
    words = {"b": "bool", "i": "integers", "u": "unsigned integers", "f": "real numbers", "c": "complex numbers"}
    return " or ".join(words[k] for k in kinds)


def physical_memory() -> int:
    """Bytes of physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
