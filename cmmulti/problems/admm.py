"""Plug-and-play ADMM with a scaled dual (Boyd et al. 2011, section 3.1.1; arXiv 1605.01710)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cmmulti.problems.base import Problem, Solver, Step, StepResult
from cmmulti.problems.proximal_cg import proximal


@dataclass(frozen=True)
class ADMM(Solver):
    """Data and prior agree through a dual variable u, which sums up their differences.

    With v the network's estimate of ``z + u``: ``z <- prox(v - u)`` (the objective of proximal CG at the level's sigma),
    ``u <- u + z - v``, and the next state is ``z + u`` plus fresh noise. The penalty is ``strength / sigma^2``, so u is
    rescaled where sigma changes (section 3.4.1). The result is z.

    Unlike proximal CG it comes to rest at the posterior mean of a Gaussian prior at any sigma, given a teacher. It needs
    several steps at similar levels; in one step it is proximal CG.

    Args:
        strength: trust in the prior, > 0. iterations: most CG iterations per step.
        eta: share of the level's noise that is added to the next state, in [0, 1].
    """

    wants_mean: ClassVar[bool] = True
    strength: float = 1.0
    iterations: int = 10
    eta: float = 1.0

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        z, u = data_and_dual(problem, step, state, self.strength, self.iterations)
        if step.sigma_next == 0:
            return StepResult(z, state=u)
        u = u * (step.sigma_next / step.sigma) ** 2
        noise = step.randomness.normal(z.shape, z.device)
        return StepResult(z, z + u + step.sigma_next * self.eta * noise, state=u)


def data_and_dual(
    problem: Problem, step: Step, dual: Tensor | None, strength: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """One round of scaled ADMM from the estimate in ``step`` and the dual of the last (None: 0): z and the new dual."""
    v = step.x0
    centre = v if dual is None else v - dual
    z = problem.admissible(proximal(problem, centre, step.sigma, strength, iterations))
    return z, z - centre
