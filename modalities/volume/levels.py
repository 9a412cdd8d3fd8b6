"""The noise levels that a reconstruction walks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cmmulti.noise import geometric


class Start(NamedTuple):
    """Where a reconstruction starts and ends, model space.

    Args:
        several: first of several levels. alone: the level of one step, which nothing mends afterwards. last: of several.
    """

    several: float
    alone: float
    last: float

    @property
    def words(self) -> str:
        """What the help of ``--start-level`` says."""
        return f"first noise level, model space (default: {self.several}, of one step {self.alone})"

    def levels(self, asked: float | None, highest: float) -> Callable[[int], Sequence[float]]:
        """Number of steps -> decreasing levels, from ``asked`` where it is given, none above ``highest``."""

        def of(steps: int) -> Sequence[float]:
            first = min(asked or (self.several if steps > 1 else self.alone), highest)
            return geometric(steps, first, min(self.last, first / 2))

        return of
