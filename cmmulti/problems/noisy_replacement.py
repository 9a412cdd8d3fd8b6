"""Noisy replacement: the measurement, noised to the level, is put into the noisy state (arXiv 2011.13456, appendix I.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cmmulti.problems.base import Problem, Solver, Step, StepResult
from cmmulti.problems.null_space import noise_beside, noise_in_model_space
from cmmulti.problems.proximal_cg import renoised


@dataclass(frozen=True)
class NoisyReplacement(Solver):
    """``x' <- (1 - A^+ A) x' + A^+ y + noise``: what was measured is renewed before every evaluation.

    The estimate itself is left to the network, which must bring the rest into agreement; with few steps it often does not,
    and correcting the estimate (replacement, proximal CG) serves better. Noise that y already holds is not added again. At
    the end exact measurements are put into the result, noisy ones are not: in a single step they are not looked at.

    Operators as for :class:`~cmmulti.problems.null_space.NullSpace`.

    Args:
        eta: share of fresh noise in [0, 1] on what was not measured; 0 follows the ODE there.
    """

    eta: float = 1.0

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        x_next = renoised(step, step.x0, self.eta)
        if x_next is None:
            return StepResult(step.x0, state=state)
        operator = problem.operator
        noise = step.randomness.normal(x_next.shape, x_next.device)
        present = noise_in_model_space(problem, noise)
        fresh = noise_beside(problem, noise, step.sigma_next, present)
        x_next = x_next + operator.pinv(problem.measurements(x_next) + operator(fresh - x_next))
        return StepResult(step.x0, x_next, state=state)

    def finish(self, problem: Problem, x0: Tensor, state: Any) -> Tensor:
        return x0 if problem.noise > 0 else problem.projected(x0)
