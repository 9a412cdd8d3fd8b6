"""Gamma sampling of two-time models (Kim et al. 2024, CTM, arXiv 2310.02279, algorithm 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.model import Role
from cmmulti.samplers.base import Sampler, Walk


@dataclass(frozen=True)
class Jumps(Sampler):
    """From level to level along the trajectory, without going to its end in between; one evaluation per level.

    ``x <- jump(x, s, q) + sqrt(s'^2 - q^2) z`` with ``q = b + sqrt(1 - gamma^2) (s' - b)``, b the boundary of the model.

    Args:
        gamma: share of fresh noise, 0 to 1. 0 is deterministic, the solution of the ODE in few steps, as MeanFlow's authors
            sample too (arXiv 2505.13447); 1 jumps to the end and noises anew, as :class:`Multistep` does.
    """

    roles: ClassVar[tuple[Role, ...]] = ("two-time",)
    gamma: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:  # nan is neither
            raise UserError(f"sampler jumps: gamma: expected a number from 0 to 1, got {self.gamma:g}")

    def walk(self, walk: Walk, x: Tensor) -> Tensor:
        boundary = walk.model.sigma_boundary
        kept = math.sqrt(1 - self.gamma**2)
        for i, (sigma, sigma_next) in enumerate(walk.steps):
            end = max(sigma_next, boundary)
            landing = boundary + kept * (end - boundary)
            result = walk.evaluate(x, i, sigma, sigma_next, landing)
            if result.x_next is not None:
                x = result.x_next
                continue
            ratio = landing / sigma
            x = ratio * x + (1 - ratio) * result.x0
            if landing < end:
                x = x + math.sqrt(end**2 - landing**2) * walk.randomness.normal(x.shape, x.device)
        return x
