"""Proximal data consistency by conjugate gradient (DDS, arXiv 2303.05754; DiffPIR, arXiv 2305.08995)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cmmulti.operators.cg import conjugate_gradient
from cmmulti.problems.base import Problem, Solver, Step, StepResult


@dataclass(frozen=True)
class ProximalCG(Solver):
    """``x0 <- argmin_x |A x - y|^2 / (2 s_y^2) + strength |x - x0|^2 / (2 sigma^2)``, CG started at x0.

    No gradient through the network, any linear operator, and the noise of the measurements is explicit. With exact
    measurements it becomes the data-consistent point nearest to x0. Then, by its own rule (DiffPIR, eq. 14),
    ``x' = x0 + sigma' (eta z + sqrt(1 - eta^2) (x - x0) / sigma)``.

    On a Gaussian prior and at small noise, a teacher or a model of two times (asked for the mean) with strength 1 and a
    one-time consistency model with strength 2 (whose step is half a teacher's there) come to rest at the posterior mean.

    Args:
        strength: trust in the prior (DiffPIR's lambda), > 0.
        iterations: most CG iterations per step. DDS takes 5, and 10 did worse there.
        eta: share of fresh noise in [0, 1]; 1 is plain multistep sampling.
    """

    wants_mean: ClassVar[bool] = True
    strength: float = 1.0
    iterations: int = 5
    eta: float = 1.0

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        x0 = problem.admissible(proximal(problem, step.x0, step.sigma, self.strength, self.iterations))
        return StepResult(x0, renoised(step, x0, self.eta), state=state)


def proximal(problem: Problem, centre: Tensor, sigma: float, strength: float, iterations: int) -> Tensor:
    """``argmin_x |A x - y|^2 / (2 s_y^2) + strength |x - centre|^2 / (2 sigma^2)`` by CG from ``centre``."""
    operator, y = problem.operator, problem.measurements(centre)
    weight = strength * (problem.noise / sigma) ** 2

    def normal(x: Tensor) -> Tensor:
        return operator.adjoint(operator(x)) + weight * x

    return conjugate_gradient(normal, operator.adjoint(y) + weight * centre, centre, iterations)


def renoised(step: Step, x0: Tensor, eta: float) -> Tensor | None:
    """``x0`` at ``sigma_next`` with a share ``eta`` of fresh noise, the rest that of ``step.x``; None at the end."""
    if step.sigma_next == 0:
        return None
    x_next = x0
    if eta > 0:
        x_next = x_next + step.sigma_next * eta * step.randomness.normal(x0.shape, x0.device)
    if eta < 1:
        x_next = x_next + step.sigma_next * (1 - eta**2) ** 0.5 * (step.x - x0) / step.sigma
    return x_next
