"""Multistep consistency sampling (Song et al. 2023, arXiv 2303.01469, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cmmulti.samplers.base import Sampler, Walk


@dataclass(frozen=True)
class Multistep(Sampler):
    """Jump to the end, add fresh noise to the next level, jump again; one level is one-step sampling.

    ``x0 = f(x, sigma)``, ``x <- x0 + sqrt(sigma_next^2 - sigma_boundary^2) z``.
    """

    def walk(self, walk: Walk, x: Tensor) -> Tensor:
        boundary = walk.model.sigma_boundary
        x0 = x
        for i, sigma in enumerate(walk.levels):
            last = i + 1 == len(walk.levels)
            sigma_next = 0.0 if last else walk.levels[i + 1]
            result = walk.evaluate(x, i, sigma, sigma_next)
            x0 = result.x0
            if last:
                break
            if result.x_next is not None:
                x = result.x_next
            else:
                std = max(sigma_next**2 - boundary**2, 0.0) ** 0.5
                x = x0 + std * walk.randomness.normal(x0.shape, x0.device)
        return x0
