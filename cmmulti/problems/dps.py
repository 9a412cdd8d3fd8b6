"""Diffusion posterior sampling: the gradient of the misfit through the network (Chung et al. 2022, arXiv 2209.14687)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from cmmulti.model import expand
from cmmulti.problems.base import Problem, Solver, Step, StepResult


@dataclass(frozen=True)
class DPS(Solver):
    """``x0 <- x0 - rate * d``, ``d = grad_x |A x0(x) - y|^2 / 2``: the network carries the misfit to unmeasured parts.

    The paper's rate, ``zeta / |A x0 - y|``, carries units and is tuned for each task. Here ``strength = 1`` is the exact
    minimum along d of proximal CG's objective ``|A x - y|^2 / (2 s_y^2) + |x - x0|^2 / (2 sigma^2)``, which is the same in
    every unit. The sampler re-noises by its own rule.

    Meant for models that know the posterior mean, which the derivation needs (Tweedie's formula), and for tens of steps.
    Every step costs a backward pass of the network and its memory.

    Args:
        strength: share of the way to that minimum, in (0, 2).
    """

    needs_gradient: ClassVar[bool] = True
    wants_mean: ClassVar[bool] = True
    strength: float = 1.0

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        operator, x0 = problem.operator, step.x0
        residual = operator(x0) - problem.measurements(x0)
        (direction,) = torch.autograd.grad(residual.abs().square().sum() / 2, step.x)
        x0, residual = x0.detach(), residual.detach()
        image = operator(direction)
        along = (image.conj() * residual).real if image.is_complex() else image * residual
        curvature = image.abs().square().flatten(1).sum(1)
        curvature = curvature + (problem.noise / step.sigma) ** 2 * direction.square().flatten(1).sum(1)
        rate = along.flatten(1).sum(1) / curvature.clamp_min(torch.finfo(curvature.dtype).tiny)
        return StepResult(problem.admissible(x0 - self.strength * expand(rate, x0) * direction), state=state)
