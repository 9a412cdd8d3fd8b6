"""Arrays in ``.npz`` archives: a size is checked against the file before any data are read, and nothing is unpickled."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cmmulti.errors import UserError

DEFLATE_LIMIT = 1032
"""No deflate stream grows by more than this factor."""


@dataclass(frozen=True)
class Header:
    """What an array says of itself before its data; sizes may be negative until they are checked."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def count(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return self.count * self.dtype.itemsize


def read_header(stream: IO[bytes]) -> Header:
    """The header that a stream begins with; the stream is then at the data.

    Raises:
        ValueError, and others of :data:`cmmulti.files.DAMAGED_ARCHIVE`: it begins with none.
    """
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in read:
        raise ValueError(f"array format {version}")
    return Header(*read[version](stream))


def header_of(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Header:
    """The header of a member, checked: see :func:`read_array`."""
    with archive.open(info) as stream:
        header = read_header(stream)
    _check(path, info, name, header)
    return header


def read_array(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, accept: Callable[[Header], None]
) -> np.ndarray:
    """The array in a member of the archive ``path``.

    Args:
        name: what messages call it. accept: told the header before anything else; raises what it does not take, as it
            should arrays of objects.

    Raises:
        UserError: the header promises more than the file or a quarter of the memory holds, or another size than the data's.
    """
    with archive.open(info) as stream:
        header = read_header(stream)
        accept(header)
        _check(path, info, name, header)
        size = header.size
        check_memory(path, f"{name} of shape {header.shape}", size)
        data = stream.read(size)
        surplus = stream.read(1)  # reaching the end also checks the CRC
    if surplus:
        raise UserError(f"{path}: {name} holds more than the {size} bytes that its header says")
    if len(data) != size:
        raise UserError(f"{path}: {name} holds {len(data)} bytes; its header says {size}")
    return np.frombuffer(data, dtype=header.dtype).reshape(header.shape, order="F" if header.fortran else "C").copy()


def _check(path: Path, info: zipfile.ZipInfo, name: str, header: Header) -> None:
    if any(n < 0 for n in header.shape):
        raise UserError(f"{path}: {name} has shape {header.shape}; expected sizes of at least 0")
    room = min(info.compress_size, path.stat().st_size) * (DEFLATE_LIMIT if info.compress_type else 1)
    if header.size > info.file_size or header.size > room:
        raise UserError(f"{path}: {name} promises {header.shape} values of {header.dtype}, more than the file holds")


def check_memory(path: Path, what: str, size: int) -> None:
    """Refuse what is larger than a quarter of the memory; ``size`` in bytes.

    Raises:
        UserError: it is.
    """
    if size > physical_memory() // 4:
        raise UserError(f"{path}: {what} needs {size >> 20} MiB, more than a quarter of the memory")


def physical_memory() -> int:
    """Bytes of physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
