"""Solvers of a teacher's ODE and SDE (Karras et al. 2022, arXiv 2206.00364, algorithms 1 and 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.samplers.base import Sampler, Walk

LARGEST_CHURN = math.sqrt(2) - 1
"""Most that one step raises a level by, as a share of it: no more new noise than there is noise already."""


@dataclass(frozen=True)
class Euler(Sampler):
    """``dx/dsigma = (x - D(x, sigma)) / sigma``, first order: one evaluation per level, the last step into 0."""

    roles = ("teacher",)

    def walk(self, walk: Walk, x: Tensor) -> Tensor:
        for i, (sigma, sigma_next) in enumerate(walk.steps):
            result = walk.evaluate(x, i, sigma, sigma_next)
            if result.x_next is not None:
                x = result.x_next
            else:
                ratio = sigma_next / sigma
                x = ratio * x + (1 - ratio) * result.x0
        return x


@dataclass(frozen=True)
class Heun(Sampler):
    """Second order: an Euler step, then the mean of the slopes at both ends; plain Euler into 0. n levels cost 2n - 1."""

    roles = ("teacher",)

    def walk(self, walk: Walk, x: Tensor) -> Tensor:
        dictated = False
        for i, (sigma, sigma_next) in enumerate(walk.steps):
            if not dictated:
                x, sigma = self.noised(walk, x, sigma)
            result = walk.evaluate(x, i, sigma, sigma_next)
            dictated = result.x_next is not None
            if result.x_next is not None:
                x = result.x_next
                continue
            slope = (x - result.x0) / sigma
            ahead = x + (sigma_next - sigma) * slope
            if sigma_next > 0:
                second = walk.evaluate(ahead, i, sigma_next, sigma_next)
                slope = (slope + (ahead - second.x0) / sigma_next) / 2
                ahead = x + (sigma_next - sigma) * slope
            x = ahead
        return x

    def noised(self, walk: Walk, x: Tensor, sigma: float) -> tuple[Tensor, float]:
        """The tensor that a step begins from, and its level, given those that it arrived at: here they are the same."""
        return x, sigma


@dataclass(frozen=True)
class StochasticHeun(Heun):
    """Heun's steps, each after some new noise: ``s' = s (1 + g)``, ``x <- x + sqrt(s'^2 - s^2) noise z`` (algorithm 2).

    ``g = min(churn / n, sqrt 2 - 1)`` for n levels where ``lowest <= s <= highest``, else 0. New noise replaces old errors
    where there are steps enough; it costs no evaluations. The level is never raised above the first, which is where the
    sampler was told to begin, and a tensor that a problem names is taken as it is.

    Args:
        churn, lowest, highest, noise: S_churn, S_min, S_max, S_noise; the defaults are the authors' for ImageNet-64 in 256
            steps (CIFAR-10: 30, 0.01, 1, 1.007).
    """

    churn: float = 40.0
    lowest: float = 0.05
    highest: float = 50.0
    noise: float = 1.003

    def __post_init__(self) -> None:
        for name in ("churn", "lowest", "highest", "noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"sampler stochastic-heun: {name}: expected a finite number from 0, got {value:g}")

    def noised(self, walk: Walk, x: Tensor, sigma: float) -> tuple[Tensor, float]:
        if not self.lowest <= sigma <= self.highest:
            return x, sigma
        share = min(self.churn / len(walk.levels), LARGEST_CHURN)
        raised = min(sigma * (1 + share), walk.levels[0])
        if raised <= sigma:
            return x, sigma
        std = self.noise * math.sqrt(raised**2 - sigma**2)
        return x + std * walk.randomness.normal(x.shape, x.device), raised
