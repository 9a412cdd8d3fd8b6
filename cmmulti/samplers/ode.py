"""Deterministic solvers of the probability-flow ODE for teachers (Karras et al. 2022, arXiv 2206.00364, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cmmulti.samplers.base import Sampler, Walk


@dataclass(frozen=True)
class Euler(Sampler):
    """``dx/dsigma = (x - D(x, sigma)) / sigma``, first order: one evaluation per level, the last step into 0."""

    def walk(self, walk: Walk, x: Tensor) -> Tensor:
        for i, (sigma, sigma_next) in enumerate(_steps(walk.levels)):
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

    def walk(self, walk: Walk, x: Tensor) -> Tensor:
        for i, (sigma, sigma_next) in enumerate(_steps(walk.levels)):
            result = walk.evaluate(x, i, sigma, sigma_next)
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


def _steps(levels: list[float]) -> list[tuple[float, float]]:
    return list(zip(levels, [*levels[1:], 0.0], strict=True))
