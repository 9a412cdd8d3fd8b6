"""ECG-like signals: five bell curves per beat (P, Q, R, S, T), a wandering base line, a little noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WAVES = ((-0.20, 0.025, 0.15), (-0.035, 0.010, -0.12), (0.0, 0.011, 1.0), (0.035, 0.012, -0.20), (0.24, 0.045, 0.30))
"""(seconds after the R peak at 60 beats per minute, width in seconds, height in millivolts)."""

BEATS_PER_MINUTE = ((55.0, 75.0), (100.0, 130.0))
"""Of class 0, at rest, and class 1, exercising."""


def ecg(label: int, n: int, rate: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """(n,) millivolts of a heart of class ``label``."""
    low, high = BEATS_PER_MINUTE[label]
    period = 60 / generator.uniform(low, high)
    times = np.arange(n) / rate
    peaks = generator.uniform(-period, 0) + period * np.arange(int(n / rate / period) + 3)
    peaks = peaks + generator.normal(0, 0.01 * period, len(peaks))
    height = generator.uniform(0.8, 1.2)
    # A faster heart has shorter intervals, by the square root as in Bazett's formula.
    squeeze = np.sqrt(period)
    signal = np.zeros(n)
    for delay, width, size in WAVES:
        distance = times[:, None] - peaks - delay * squeeze
        signal += height * size * np.exp(-0.5 * (distance / width) ** 2).sum(1)
    wander = 0.05 * np.sin(2 * np.pi * (generator.uniform(0.15, 0.35) * times + generator.uniform()))
    return signal + wander + generator.normal(0, 0.01, n)
