"""A user's file of contexts: a CSV table of numbers, or arrays by file name (``.npz``, ``.safetensors``)."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cmmulti.contexts.archive import read_npz
from cmmulti.errors import UserError
from cmmulti.files import regular_file

FILE = "file"
"""The column of a CSV table that says which item a row belongs to."""
SUFFIXES = (".csv", ".npz", ".safetensors")


@dataclass(frozen=True)
class ContextTable:
    """Contexts in the user's own units.

    Args:
        path: where they were read. names: of the columns, in order; empty where they are arrays.
        entries: file name -> (tokens, features), all of one shape and finite.
    """

    path: Path
    names: tuple[str, ...]
    entries: Mapping[str, NDArray[np.floating]]

    def of(self, files: Sequence[str]) -> list[NDArray[np.floating]]:
        """The context of each of ``files``, paths relative to the data's folder; an entry is that path or the file's name.

        Raises:
            UserError: one has none, or several share a name that stands for one.
        """
        owners: dict[str, str] = {}
        found = []
        for file in files:
            name = PurePosixPath(file).name
            key = file if file in self.entries else name
            if key not in self.entries:
                raise UserError(f"{self.path}: no context for {file!r}; expected an entry of that path or named {name!r}")
            if owners.setdefault(key, file) != file:
                raise UserError(f"{self.path}: {key!r} names {owners[key]!r} and {file!r}; expected their paths")
            found.append(self.entries[key])
        return found


def read_contexts(path: Path) -> ContextTable:
    """Read ``.csv``, ``.npz`` or ``.safetensors``; nothing in it is executed.

    A CSV table has a column ``file`` and further columns of numbers, which make one token each row. The others hold one
    float array (tokens, features) per file name.

    Raises:
        UserError: naming the file, the entry and what was expected.
    """
    regular_file(path, f"contexts in {', '.join(SUFFIXES)}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: expected contexts in a file ending in {', '.join(SUFFIXES)}")
    if suffix == ".csv":
        names, entries = _csv(path)
    else:
        names, entries = (), _arrays(path, read_npz(path) if suffix == ".npz" else _safetensors(path))
    if not entries:
        raise UserError(f"{path}: holds no contexts; expected one per item")
    return ContextTable(path, names, entries)


def _csv(path: Path) -> tuple[tuple[str, ...], dict[str, NDArray[np.floating]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            names = tuple(name for name in columns if name != FILE)
            if FILE not in columns or not names or max(Counter(columns).values()) > 1 or not all(map(_plain, names)):
                told = ", ".join(columns) or "nothing"
                raise UserError(f"{path}: expected a column {FILE!r} and columns of numbers, each once; got {told}")
            entries: dict[str, NDArray[np.floating]] = {}
            for row in reader:
                where = f"{path}: line {reader.line_num}"
                key = (row[FILE] or "").strip()
                if not key or key in entries or None in row:
                    raise UserError(f"{where}: expected a file that no other line names, and {len(names)} numbers")
                entries[key] = np.array([[_number(row[name], f"{where}: {name}") for name in names]])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a CSV table: {error}") from error
    return names, entries


def _plain(name: str) -> bool:
    """Whether a column's name can be typed in ``name=value,name=value``."""
    return bool(name) and not set("=,") & set(name)


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) <= torch.finfo(torch.float32).max:  # NaN is not, either; the network is told no more
        raise UserError(f"{where} = {text!r}: expected a finite number of single precision")
    return value


def _safetensors(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with safe_open(path, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                tensor = stored.get_tensor(name)
                yield name, tensor.to(torch.float32).numpy() if tensor.is_floating_point() else tensor.numpy()
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: damaged contexts ({error}); expected a whole safetensors file") from error


def _arrays(path: Path, found: Iterator[tuple[str, Any]]) -> dict[str, NDArray[np.floating]]:
    entries: dict[str, NDArray[np.floating]] = {}
    for name, array in found:
        if array.dtype.kind != "f" or array.ndim != 2 or not array.size:
            told = f"{array.dtype} of shape {array.shape}"
            raise UserError(f"{path}: {name!r} is {told}; expected floating point (tokens, features)")
        array = array.astype(np.float32)
        if not bool(np.isfinite(array).all()):
            raise UserError(f"{path}: {name!r} holds NaN or infinity; expected finite numbers")
        first = next(iter(entries.values()), array)
        if array.shape != first.shape:
            raise UserError(f"{path}: {name!r} is {array.shape}; expected {first.shape}, as {next(iter(entries))!r}")
        entries[name] = array
    return entries
