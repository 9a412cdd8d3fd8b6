"""The contract of a sampler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.model import Model, Role, evaluating
from cmmulti.noise import check_levels
from cmmulti.problems.base import Problem, Start, Step, StepResult, first_state
from cmmulti.randomness import SampleRandomness


class Samples(NamedTuple):
    """Clean tensors (B, C, *spatial) and the network evaluations that each of them cost."""

    x: Tensor
    nfe: int


class StepInfo(NamedTuple):
    """What a callback is told after each evaluation: its number, how many levels there are, sigma, the estimate."""

    number: int
    total: int
    sigma: float
    x0: Tensor


Callback = Callable[[StepInfo], None]


@dataclass(frozen=True)
class Sampler(ABC):
    """A walk down a list of noise levels. It generates, edits and reconstructs alike, and knows no solver."""

    roles: ClassVar[tuple[Role, ...]] = ("teacher", "consistency", "two-time")
    """The models that it can follow."""

    def sample(
        self,
        model: Model,
        start: Start,
        levels: Sequence[float] | Tensor,
        randomness: SampleRandomness,
        condition: Condition = NO_CONDITION,
        problem: Problem | None = None,
        callback: Callback | None = None,
    ) -> Samples:
        """Walk from ``levels[0]`` to the clean end.

        Args:
            start: a shape, unit noise, or a clean tensor to be noised to the first level.
            levels: decreasing sigmas in (0, model.sigma_max].
            randomness: one seed per sample.
            problem: what the samples are held to; None generates freely.
            callback: told each estimate.

        Raises:
            UserError: the levels do not decrease or leave the model's range.
        """
        sigmas = check_levels(levels, model.sigma_max)
        before = model.nfe
        with evaluating(model), torch.no_grad():
            x = first_state(start, sigmas, randomness, model)
            walk = Walk(model, sigmas, randomness, condition.to(x.device), problem, callback)
            if problem is not None:
                x, walk.state = problem.begin(x, sigmas, randomness.child("begin"))
            x0 = self.walk(walk, x)
            if problem is not None:
                x0 = problem.finish(x0, walk.state)
        return Samples(x0.detach(), model.nfe - before)

    @abstractmethod
    def walk(self, walk: Walk, x: Tensor) -> Tensor:
        """From ``x`` at the first level to the last corrected estimate."""


@dataclass
class Walk:
    """One run of a sampler: what stays the same from step to step, and the evaluation that a problem corrects.

    Args:
        levels: decreasing sigmas. state: what the problem's solver returned last.
        told: the level that the problem wants the network to be told at the next evaluation; None for the true one.
    """

    model: Model
    levels: list[float]
    randomness: SampleRandomness
    condition: Condition
    problem: Problem | None
    callback: Callback | None
    state: Any = None
    told: float | None = None

    @property
    def steps(self) -> list[tuple[float, float]]:
        """Each level and the one after it, 0 after the last."""
        return list(zip(self.levels, [*self.levels[1:], 0.0], strict=True))

    def evaluate(self, x: Tensor, number: int, sigma: float, sigma_next: float, landing: float | None = None) -> StepResult:
        """The network's estimate of ``x`` at ``sigma``, corrected by the problem.

        ``landing``: the level that a two-time model is to jump to, whose estimate is then :meth:`Model.aim`; None: the end.
        """
        told, self.told = self.told if self.told is not None else sigma, None
        gradient = self.problem is not None and self.problem.needs_gradient
        with torch.set_grad_enabled(gradient):
            if gradient:
                x = x.detach().requires_grad_()
            x0 = self.estimate(x, told, landing)
            result = StepResult(x0, state=self.state)
            if self.problem is not None:
                step = Step(x, sigma, sigma_next, x0, self.model, self.condition, self.randomness)
                result = self.problem.step(step, self.state)
        self.state, self.told = result.state, result.sigma_told
        if self.callback is not None:
            self.callback(StepInfo(number, len(self.levels), sigma, result.x0.detach()))
        return result

    def estimate(self, x: Tensor, sigma: float, landing: float | None = None) -> Tensor:
        """The end of the trajectory through ``x``, or what a jump to ``landing`` aims at; the mean where the problem wants
        it and the model knows both."""
        if self.problem is not None and self.problem.wants_mean and self.model.role == "two-time":
            return self.model.diagonal(x, sigma, self.condition)
        if landing is not None:
            # A problem may have the network told a level below the one that is landed on: no jump leads upwards.
            return self.model.aim(x, sigma, min(landing, sigma), self.condition)
        return self.model.endpoint(x, sigma, self.condition)
