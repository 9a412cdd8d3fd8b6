"""Measurements in ``.npz`` archives: every size is checked against the file before a byte of data is read."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cmmulti.archives import Header, read_array
from cmmulti.errors import UserError
from cmmulti.files import DAMAGED_ARCHIVE


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
    def accept(header: Header) -> None:
        if header.dtype.kind not in kinds:
            raise UserError(f"{path}: {name} holds {header.dtype}; expected {kind_words(kinds)}")

    array = read_array(path, archive, info, name, accept)
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise UserError(f"{path}: {name} holds NaN or infinity; expected finite numbers")
    return array


def kind_words(kinds: str) -> str:
    """What numbers of these kinds are called."""
    words = {"b": "bool", "i": "integers", "u": "unsigned integers", "f": "real numbers", "c": "complex numbers"}
    return " or ".join(words[k] for k in kinds)
