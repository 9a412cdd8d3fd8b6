"""Post-hoc EMA: any power-function average from snapshots of others (EDM2, arXiv 2312.02696, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmmulti.config.schema import WIDEST
from cmmulti.training.ema import gamma_of

Numbers = NDArray[np.float64]

GRID = 0.005
"""Steps of the relative widths that are tried to tell which can be had."""


@dataclass(frozen=True)
class Mixture:
    """How stored averages make up one that was not kept.

    Args:
        weights: one per stored average, with the sum 1. misfit: what of the wanted profile they cannot make, in its
            least-squares norm: 0 exact, 1 nothing of it.
    """

    weights: Numbers
    misfit: float


def mixture(stored: Sequence[tuple[int, float]], step: int, sigma_rel: float) -> Mixture:
    """The weights that come nearest to the average of relative width ``sigma_rel`` after ``step``.

    With A the products of the stored profiles with each other and B those with the wanted one, A X = B in float64; X is
    divided by its sum, so that weights which never moved stay as they are (Algorithm 3).

    Args:
        stored: (step, relative width) of each stored average, all different, none later than ``step``.
    """
    steps = np.array([s for s, _ in stored], dtype=np.float64)
    gammas = np.array([gamma_of(width) for _, width in stored])
    wanted = gamma_of(sigma_rel)
    between: Numbers = product(steps[:, None], gammas[:, None], steps[None], gammas[None])
    onto = product(steps, gammas, step, wanted)
    norm = float(product(step, wanted, step, wanted))
    solved = np.linalg.solve(between, onto)
    left = norm - 2 * float(solved @ onto) + float(solved @ between @ solved)
    return Mixture(solved / solved.sum(), float(np.sqrt(max(left, 0.0) / norm)))


def within(stored: Sequence[tuple[int, float]], step: int, misfit: float) -> list[tuple[float, float]]:
    """The relative widths that are made with at most ``misfit``: the lowest and the highest of each range of them."""
    grid = sorted({*(float(w) for w in np.arange(GRID, WIDEST, GRID).round(6)), *(width for _, width in stored)})
    ranges = [list(run) for fits, run in groupby(grid, lambda w: mixture(stored, step, w).misfit <= misfit) if fits]
    return [(run[0], run[-1]) for run in ranges]


def product(steps_a: ArrayLike, gammas_a: ArrayLike, steps_b: ArrayLike, gammas_b: ArrayLike) -> Numbers:
    """``integral p_a(tau) p_b(tau) dtau`` of two profiles ``p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1)`` on [0, t]:
    ``(ga + 1) (gb + 1) (ta / tb)^e / ((ga + gb + 1) max(ta, tb))``, e = gb where ta < tb, else -ga (eq. 151).
    """
    ta, ga, tb, gb = (np.asarray(v, dtype=np.float64) for v in (steps_a, gammas_a, steps_b, gammas_b))
    power = np.where(ta < tb, gb, -ga)
    return np.asarray((ga + 1) * (gb + 1) * np.exp(power * np.log(ta / tb)) / ((ga + gb + 1) * np.maximum(ta, tb)))
