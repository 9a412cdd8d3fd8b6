"""Search of a sampler's intermediate levels (Song et al. 2023, arXiv 2303.01469, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.noise import check_levels

Quality = Callable[[list[float]], float]
"""Levels -> how bad their samples are (a Fréchet distance, a reconstruction error); smaller is better."""


@dataclass(frozen=True)
class Found:
    """Levels for every number of steps up to the one asked for.

    ``levels[k]`` and ``values[k]`` are the best list of k + 1 levels and its quality; ``evaluations`` counts the calls of
    the quality function.
    """

    levels: tuple[tuple[float, ...], ...]
    values: tuple[float, ...]
    evaluations: int

    @property
    def best(self) -> tuple[float, ...]:
        """The list of best quality; more steps than needed are left out."""
        return self.levels[self.values.index(min(self.values))]


def search_levels(quality: Quality, steps: int, grid: Sequence[float] | Tensor) -> Found:
    """Choose ``steps`` levels from ``grid`` one after another, each below the last.

    A new level is found by ternary search over the rest of the grid, those before it standing still. That takes some
    ``2 log_1.5 n`` evaluations of n candidates and assumes that quality has one minimum along the grid.

    Args:
        quality: must give the same number for the same levels: use the same seeds in every call.
        steps: how many levels, 1 to ``len(grid)``. grid: decreasing levels; the first is where sampling starts.

    Raises:
        UserError: the grid does not decrease, or holds fewer levels than steps.
    """
    candidates = check_levels(grid, float("inf"))
    if not 1 <= steps <= len(candidates):
        raise UserError(f"steps: expected 1 to {len(candidates)}, the number of levels in the grid, got {steps}")
    calls = 0

    chosen: list[float] = []

    def measured(index: int) -> float:
        """With candidate ``index`` behind the levels chosen so far."""
        nonlocal calls
        calls += 1
        return float(quality([*chosen, candidates[index]]))

    taken, values = 0, [measured(0)]
    chosen.append(candidates[0])
    lists = [tuple(chosen)]
    for more in range(1, steps):
        # Enough of the grid is left for the levels that are still to come.
        last = len(candidates) - (steps - more)
        taken, value = _lowest(measured, taken + 1, last)
        chosen.append(candidates[taken])
        lists.append(tuple(chosen))
        values.append(value)
    return Found(tuple(lists), tuple(values), calls)


def _lowest(function: Callable[[int], float], low: int, high: int) -> tuple[int, float]:
    """Where a function with one minimum on the integers ``low..high`` is least, and its value there."""
    known: dict[int, float] = {}

    def at(i: int) -> float:
        if i not in known:
            known[i] = function(i)
        return known[i]

    while high - low > 2:
        third = (high - low) // 3
        left, right = low + third, high - third
        if at(left) <= at(right):
            high = right
        else:
            low = left
    best = min(range(low, high + 1), key=at)
    return best, at(best)
