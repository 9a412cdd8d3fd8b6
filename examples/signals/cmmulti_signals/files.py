"""CSV files with a header ``seconds,NAME,...``: every number comes back as the same float64."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from cmmulti.errors import UserError
from cmmulti.files import writing
from cmmulti_signals.signal import Signal

LARGEST = 200_000_000
"""Bytes; some hours of a dozen channels."""

UNEVEN = 0.02
"""Largest share of a step by which the times of samples may differ from a constant rate."""


def load(path: Path) -> Signal:
    """Read a recording.

    Raises:
        UserError: missing, empty, cut or damaged file; uneven times; NaN or infinity.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: {path.stat().st_size} bytes; expected at most {LARGEST}")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from error
    if len(rows) < 3 or len(rows[0]) < 2 or rows[0][0] != "seconds":
        raise UserError(f"{path}: expected a header 'seconds,NAME,...' and at least two rows below it")
    if uneven := next((i for i, row in enumerate(rows, 1) if len(row) != len(rows[0])), None):
        raise UserError(f"{path}: line {uneven} has {len(rows[uneven - 1])} values; expected {len(rows[0])}")
    try:
        table = np.array(rows[1:], dtype=np.float64)
    except ValueError as error:
        raise UserError(f"{path}: expected numbers below the header ({error})") from error
    if not np.isfinite(table).all():
        raise UserError(f"{path}: NaN or infinity in line {2 + int(np.flatnonzero(~np.isfinite(table).all(1))[0])}")
    return Signal(table[:, 1:], _rate(path, table[:, 0]), tuple(rows[0][1:]), float(table[0, 0]))


def save(signal: Signal, path: Path) -> Path:
    """Write a recording; the file appears whole or not at all. Raises UserError where it cannot be written."""
    path = path.with_suffix(".csv")
    times = signal.start + np.arange(len(signal.samples)) / signal.rate
    with writing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["seconds", *signal.channels])
        for time, values in zip(times.tolist(), signal.samples.tolist(), strict=True):
            writer.writerow([round(time, 6), *values])
    return path


def _rate(path: Path, times: np.ndarray) -> float:
    """Samples per second, from all of the times."""
    step = (times[-1] - times[0]) / (len(times) - 1)
    if step <= 0 or np.abs(np.diff(times) - step).max() > UNEVEN * step + 2e-6:
        raise UserError(f"{path}: the times of its samples are not evenly spaced; expected one constant rate")
    # Times are written in microseconds: a rate that is nearly whole is whole.
    rate = 1 / step
    return float(round(rate)) if abs(rate - round(rate)) < 1e-3 * rate and round(rate) > 0 else float(rate)
