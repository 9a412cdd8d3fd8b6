"""Datasets in HDF5 files: nothing outside the file is followed, and every size is checked before a byte of data is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import h5py
import numpy as np

from cmmulti.archives import DEFLATE_LIMIT, check_memory
from cmmulti.errors import UserError
from cmmulti.files import DAMAGED_ARCHIVE, regular_file
from modalities.volume.item import Array
from modalities.volume.npz import kind_words

TOLD = 8
"""Most names that a message lists."""

LARGEST_HEAP = 1 << 24
"""Most bytes of the texts of any length that are stored together."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading.

    Raises:
        UserError: missing, no regular file, or no HDF5.
    """
    regular_file(path, "an HDF5 file")
    with _reading(path):
        # Nothing is written, and some file systems have no locks.
        file = h5py.File(path, "r", locking=False)
    with file:
        yield file


def names(path: Path, file: h5py.File) -> list[str]:
    """The first names in a file."""
    with _reading(path):
        return list(islice(file, TOLD))


def holds(path: Path, name: str) -> bool:
    """Whether a file has something of that name.

    Raises:
        UserError: it is no HDF5 file.
    """
    with opened(path) as file, _reading(path):
        return file.get(name, getlink=True) is not None


def dataset(path: Path, file: h5py.File, name: str, kinds: str) -> h5py.Dataset | None:
    """A dataset of the file itself, None where there is none of that name; its data are not read yet.

    Args:
        kinds: of numbers or text that it may hold, numpy's ``dtype.kind`` letters (O: text of any length).

    Raises:
        UserError: a link, a group, data in other files, a wrong kind, or a shape that promises more than the file holds.
    """
    with _reading(path):
        link = file.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"{path}: {name} is a link ({type(link).__name__}); expected a dataset in the file itself")
        found = file[name]
        if not isinstance(found, h5py.Dataset):
            raise UserError(f"{path}: {name} is a {type(found).__name__.lower()}; expected a dataset")
        if found.is_virtual or found.external:
            raise UserError(f"{path}: the data of {name} lie in other files; expected them in the file itself")
        dtype, shape, chunks = found.dtype, found.shape, found.chunks or ()
        stored, filters = found.id.get_storage_size(), found.id.get_create_plist().get_nfilters()
    expected = "text" if "S" in kinds else kind_words(kinds)
    if dtype.kind not in kinds or (dtype.kind == "O" and h5py.check_string_dtype(dtype) is None):
        raise UserError(f"{path}: {name} holds {dtype}; expected {expected}")
    if shape is None:
        raise UserError(f"{path}: {name} is empty; expected {expected}")
    room = min(stored, path.stat().st_size) * (DEFLATE_LIMIT if filters else 1)
    if math.prod(shape) * dtype.itemsize > room:
        raise UserError(f"{path}: {name} promises {shape} values of {dtype}, more than the file holds")
    check_memory(path, f"a chunk of {name}", math.prod(chunks) * dtype.itemsize)
    return found


def whole(path: Path, found: h5py.Dataset) -> Array:
    """All of a dataset of numbers.

    Raises:
        UserError: damaged, or larger than a quarter of the memory.
    """
    check_memory(path, f"{_name(found)} of shape {found.shape}", found.size * found.dtype.itemsize)
    with _reading(path):
        values: Array = found[()]
        return values


def text(path: Path, found: h5py.Dataset, largest: int) -> bytes:
    """The one text in a dataset, of any character set.

    Raises:
        UserError: damaged, several, or longer than ``largest`` bytes.
    """
    told, fixed = f"{path}: {_name(found)}", found.dtype.kind == "S"
    if found.size != 1:
        raise UserError(f"{told} holds {found.size} texts; expected one")
    with _reading(path):
        length = found.dtype.itemsize if fixed else _reference(path, found)[0]
        if length > largest:
            raise UserError(f"{told} has {length} bytes; expected at most {largest}")
        return bytes(np.asarray(found[()]).item()) if fixed else _from_heap(path, found)


def _reference(path: Path, found: h5py.Dataset) -> tuple[int, int, int]:
    """Length of a text of any length, where its heap begins, and its number there."""
    offset = found.id.get_offset()
    if offset is None or found.file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError(f"{_name(found)} is packed or of a rare form")
    stored = _bytes_at(path, offset, 16)
    return _number(stored[:4]), _number(stored[4:12]) + found.file.userblock_size, _number(stored[12:])


def _from_heap(path: Path, found: h5py.Dataset) -> bytes:
    """A text of any length. HDF5 itself (2.0) searches a damaged heap without end."""
    length, begin, wanted = _reference(path, found)
    if length == 0:
        return b""
    head = _bytes_at(path, begin, 16)
    size = _number(head[8:])
    if head[:5] != b"GCOL\x01" or size > LARGEST_HEAP:
        raise ValueError(f"{_name(found)} is not where it should be")
    heap, at = _bytes_at(path, begin, size), 16
    while at + 16 <= len(heap):
        number, room = _number(heap[at : at + 2]), _number(heap[at + 8 : at + 16])
        if number == wanted and length <= room <= len(heap) - at - 16:
            return heap[at + 16 : at + 16 + length]
        if number == 0:
            break
        at += 16 + (room + 7) // 8 * 8
    raise ValueError(f"{_name(found)} is not where it should be")


def _bytes_at(path: Path, offset: int, count: int) -> bytes:
    if offset + count > path.stat().st_size:
        raise ValueError("it ends before what it promises")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(count)


def _number(stored: bytes) -> int:
    return int.from_bytes(stored, "little")


def parts(path: Path, found: h5py.Dataset) -> Iterator[Array]:
    """What lies along the first axis, one after the other; what is packed together is read together.

    Raises:
        UserError: damaged, or a quarter of the memory does not hold what is packed together.
    """
    step = found.chunks[0] if found.chunks else 1
    shape = (min(step, found.shape[0]), *found.shape[1:])
    check_memory(path, f"{_name(found)}, packed in parts of {shape},", math.prod(shape) * found.dtype.itemsize)
    for first in range(0, found.shape[0], step):
        with _reading(path):
            block = found[first : first + step]
        yield from block


def _name(found: h5py.Dataset) -> str:
    return str(found.name).removeprefix("/")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: not a readable HDF5 file: {str(error) or type(error).__name__}") from error
