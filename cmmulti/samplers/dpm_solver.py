"""DPM-Solver++(2M) for teachers (Lu et al. 2022, arXiv 2211.01095, algorithm 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from cmmulti.samplers.base import Sampler, Walk


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """Second order in ``l = -ln sigma`` by the estimate before, so that every level costs one evaluation.

    ``x <- (s'/s) x + (1 - s'/s) D'`` with ``D' = (1 + 1/(2r)) D - D_prev / (2r)``, ``h = l' - l`` and ``r = h_prev / h``;
    ``D' = D`` on the first step and into 0. An estimate from before a tensor that a problem named is of another
    trajectory: the step after it is of first order, too.
    """

    roles = ("teacher",)

    def walk(self, walk: Walk, x: Tensor) -> Tensor:
        before: tuple[Tensor, float] | None = None
        for i, (sigma, sigma_next) in enumerate(walk.steps):
            result = walk.evaluate(x, i, sigma, sigma_next)
            if result.x_next is not None:
                x, before = result.x_next, None
                continue
            estimate = result.x0
            if sigma_next > 0:
                step = math.log(sigma / sigma_next)
                if before is not None:
                    share = step / (2 * before[1])
                    estimate = (1 + share) * estimate - share * before[0]
                before = result.x0, step
            ratio = sigma_next / sigma
            x = ratio * x + (1 - ratio) * estimate
        return x
