"""PnP-CM (arXiv 2509.22736): a consistency model as the prior of ADMM, told another noise level than was added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from cmmulti.problems.admm import data_and_dual
from cmmulti.problems.base import Problem, Solver, Step, StepResult
from cmmulti.randomness import SampleRandomness


class _State(NamedTuple):
    """The dual, the last data step, and how many there were."""

    dual: Tensor | None = None
    last: Tensor | None = None
    number: int = 0


@dataclass(frozen=True)
class PnPCM(Solver):
    """ADMM for consistency models: ``x <- f(z + u + sigma n, (1 + delta) sigma)``, and momentum on z.

    The state holds more error than the noise that was added (aliasing, the dual), so the network is told a higher level.
    Momentum: ``z + momentum / k (z - z_last)`` after the k-th data step.

    On a Gaussian prior and at small noise it comes to rest at the posterior mean where ``strength = 2 / (1 + delta)^2``.

    Args:
        strength: trust in the prior, > 0. iterations: most CG iterations per step.
        delta: excess of the level that is told, >= 0; few-step MRI in the literature uses up to 9.5.
        momentum: mu_0, >= 0.
    """

    strength: float = 1.0
    iterations: int = 10
    delta: float = 0.2
    momentum: float = 0.0

    def begin(
        self, problem: Problem, x: Tensor, levels: Sequence[float], randomness: SampleRandomness
    ) -> tuple[Tensor, _State]:
        return x, _State()

    def step(self, problem: Problem, step: Step, state: _State) -> StepResult:
        z, u = data_and_dual(problem, step, state.dual, self.strength, self.iterations)
        number = state.number + 1
        if step.sigma_next == 0:
            return StepResult(z, state=_State(u, z, number))
        u = u * (step.sigma_next / step.sigma) ** 2
        ahead = z if state.last is None else z + self.momentum / number * (z - state.last)
        x_next = ahead + u + step.sigma_next * step.randomness.normal(z.shape, z.device)
        told = min((1 + self.delta) * step.sigma_next, step.model.sigma_max)
        return StepResult(z, x_next, told, _State(u, z, number))
