"""The item: a recording as it is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Signal:
    """A recording.

    Args:
        samples: (n, channels) float64, millivolts. rate: Hz. channels: their names. start: seconds of the first sample.
    """

    samples: NDArray[np.float64]
    rate: float
    channels: tuple[str, ...]
    start: float = 0.0

    def with_samples(self, samples: NDArray[np.float64]) -> Signal:
        return replace(self, samples=samples)

    def span(self, start: float, end: float) -> slice:
        """Sample numbers of [start, end) seconds after the first sample, rounded to the nearest."""
        return slice(round(start * self.rate), round(end * self.rate))
