"""Tables that grow by a row at a time, ``log.csv`` and ``validation.csv``: how they are read, cut and written."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from cmmulti.errors import UserError
from cmmulti.files import writing

EDGES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Noise levels between the bins of the loss; the outer bins are open."""
_ENDS = ("0", *(f"{e:g}" for e in EDGES), "max")
RANGES = tuple(f"{low}_{high}" for low, high in pairwise(_ENDS))
"""The bins by name."""
BINS = tuple(f"loss_{r}" for r in RANGES)
NONFINITE = tuple(f"nonfinite_{r}" for r in RANGES)
"""Steps without a finite gradient, each shared out over the samples that it came from."""
COLUMNS = ("step", "items", "loss", *BINS, "grad_norm", "nonfinite", "learning_rate", "items_per_second", "seconds")
"""Of every ``log.csv``; what a method tells besides follows."""


class LogFile:
    """A table that a run writes.

    Args:
        path: the file. columns: that it always has, ``step`` among them; a row may bring more, which then stand in every
            row, ``nan`` where they were not told.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)

    def begin(self, step: int) -> list[dict[str, float]]:
        """Make the file with the rows up to ``step`` that it had (those after it will be made again) and return them."""
        kept = [row for row in read(self.path) if row["step"] <= step]
        self._write(kept)
        return kept

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row.

        Raises:
            UserError: the file cannot be written.
        """
        if new := [name for name in row if name not in self.columns]:
            self.columns += new
            self._write(read(self.path))
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(self._line(row))
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def _write(self, rows: Sequence[Mapping[str, float]]) -> None:
        self.columns += [name for name in (rows[0] if rows else ()) if name not in self.columns]
        text = line(self.columns) + "".join(map(self._line, rows))
        with writing(self.path) as part:
            part.write_text(text, encoding="utf-8")

    def _line(self, row: Mapping[str, float]) -> str:
        return line([cell(row.get(name, math.nan)) for name in self.columns])


def read(path: Path) -> list[dict[str, float]]:
    """The whole rows of a table, none where there is no such file.

    A last line that a killed run left unfinished is passed over, and so are rows with what is no number.
    """
    if not path.is_file():
        return []
    rows = []
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]  # cut within its last number, a row would have a cell for each column all the same
    for row in csv.DictReader(io.StringIO(whole)):
        try:
            numbers = {name: float(value) for name, value in row.items()}
        except (TypeError, ValueError):
            continue
        if math.isfinite(numbers.get("step", math.nan)):
            rows.append(numbers)
    return rows


def line(values: Sequence[str]) -> str:
    """Cells as a line of CSV; they hold no commas."""
    return ",".join(values) + "\n"


def cell(value: float) -> str:
    """A number as a cell: whole ones in full, others to six digits."""
    return str(int(value)) if value == value and float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
