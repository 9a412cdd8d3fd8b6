"""Contexts in an ``.npz`` archive, which is unpacked only after it has said how much there is of it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from cmmulti.archives import Header, header_of, physical_memory, read_array
from cmmulti.errors import UserError
from cmmulti.files import DAMAGED_ARCHIVE

MOST_NUMBERS = 1 << 24
"""Of the context of one item: 4096 tokens of 4096 features, eight times the embeddings of the largest text encoders."""


def read_npz(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and numbers of each array (tokens, features); all headers are looked at before the first array is read.

    Raises:
        UserError: naming the array and its size, where it is none that a context can have; together they need more than
            half of the memory; the archive is damaged.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = {_name(info): info for info in archive.infolist()}
            numbers = 0
            for name, info in members.items():
                header = header_of(path, archive, info, repr(name))
                _accept(path, name, header)
                numbers += header.count
            needed, most = numbers * np.dtype(np.float32).itemsize, physical_memory() // 2
            if needed > most:
                told = f"contexts of {len(members)} items need {needed} bytes"
                raise UserError(f"{path}: {told}; expected at most half of the memory, {most}")
            for name, info in members.items():
                yield (
                    name,
                    read_array(path, archive, info, repr(name), partial(_accept, path, name)),
                )
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: not a whole archive of arrays ({error})") from error


def _name(info: zipfile.ZipInfo) -> str:
    if not info.filename.endswith(".npy"):
        raise ValueError(f"{info.filename} is no array")
    return info.filename.removesuffix(".npy")


def _accept(path: Path, name: str, header: Header) -> None:
    """Refuse what is no context of an item, whatever its data are."""
    if header.dtype.kind != "f" or len(header.shape) != 2 or not all(header.shape):
        told = f"{header.dtype} of shape {header.shape}"
        raise UserError(f"{path}: {name!r} is {told}; expected floating point (tokens, features)")
    if header.count > MOST_NUMBERS:
        told = f"{name!r} of shape {header.shape} has {header.count} numbers"
        raise UserError(f"{path}: {told}; expected at most {MOST_NUMBERS} in the context of one item")
