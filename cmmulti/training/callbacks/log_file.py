"""``log.csv``: which columns it has, and how it is read and cut."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from cmmulti.files import replacing

EDGES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Noise levels between the bins of the loss; the outer bins are open."""
BINS = tuple(
    f"loss_{low}_{high}"
    for low, high in zip(("0", *(f"{e:g}" for e in EDGES)), (*(f"{e:g}" for e in EDGES), "max"), strict=True)
)
COLUMNS = ("step", "images", "loss", *BINS, "grad_norm", "learning_rate", "images_per_second", "seconds")


def truncate(path: Path, step: int) -> float:
    """Keep the rows up to ``step`` (those after it will be made again) and return the seconds already spent."""
    rows = read(path) if path.is_file() else []
    kept = [row for row in rows if row["step"] <= step]
    text = line(list(COLUMNS)) + "".join(line([told(row[c]) for c in COLUMNS]) for row in kept)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return kept[-1]["seconds"] if kept else 0.0


def read(path: Path) -> list[dict[str, float]]:
    """The whole rows of a log; a last line that a killed run left unfinished is passed over."""
    rows = []
    for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8", errors="replace"))):
        try:
            rows.append({c: float(row[c]) for c in COLUMNS})
        except (KeyError, TypeError, ValueError):
            continue
    return rows


def line(values: list[str]) -> str:
    return ",".join(values) + "\n"


def told(value: float) -> str:
    return str(int(value)) if value == value and float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
