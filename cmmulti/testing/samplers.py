"""The contract of samplers, on Gaussian priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.errors import UserError
from cmmulti.model import Model, Role
from cmmulti.noise import karras
from cmmulti.operators.base import Identity
from cmmulti.parameterization import EDM
from cmmulti.problems.base import Noised, Problem, Solver, Start, Step, StepResult
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.base import Sampler, Samples, StepInfo
from cmmulti.testing.gaussian import Gaussian, GaussianNetwork
from cmmulti.testing.suite import Suite, fail_unless


@dataclass(frozen=True)
class SamplerCase:
    """A sampler, and the kind of model whose samples it makes.

    Args:
        role: ``teacher`` for solvers of the ODE or SDE, which want a posterior mean; ``consistency`` for those that want
            the end of a trajectory.
    """

    sampler: Sampler
    role: Role


check_sampler: Suite[SamplerCase] = Suite("sampler")
"""``check_sampler(SamplerCase(MySampler(), "teacher"))``."""

SHAPE = (1, 2, 2)
PRIOR = Gaussian.random(SHAPE, seed=5)
LEVELS = (20.0, 2.0, 0.4)


class Recording(GaussianNetwork):
    """The exact network, which notes the level of every call."""

    def __init__(self, role: Role) -> None:
        super().__init__(PRIOR, EDM(), role)
        self.told: list[float] = []

    def forward(
        self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
    ) -> Tensor:
        self.told.append(float(self.parameterization.to_sigma(time.double())[0]))
        return super().forward(x, time, condition, time_next)


def recorded(case: SamplerCase) -> tuple[Model, list[float]]:
    """A fresh exact model of the case's kind, and the levels that its network will have been told."""
    network = Recording(case.role)
    return Model(network, network.parameterization, case.role), network.told


def draw(
    case: SamplerCase,
    seeds: Sequence[int],
    levels: Sequence[float] | Tensor = LEVELS,
    start: Start | None = None,
    **more: Any,
) -> Samples:
    """Samples of the prior by a fresh model."""
    model, _ = recorded(case)
    begin = (len(seeds), *SHAPE) if start is None else start
    return case.sampler.sample(model, begin, levels, SampleRandomness(seeds), **more)


@check_sampler.check
def evaluations_are_counted(case: SamplerCase) -> None:
    """The reported number is that of the network's calls, at least one per level; a guided one counts twice."""
    for levels in (LEVELS[:1], LEVELS):
        model, told = recorded(case)
        got = case.sampler.sample(model, (2, *SHAPE), levels, SampleRandomness([1, 2]))
        fail_unless(got.nfe == len(told), f"{got.nfe} evaluations reported, {len(told)} made")
        fail_unless(got.nfe >= len(levels), f"{got.nfe} evaluations for {len(levels)} levels")
    again = case.sampler.sample(model, (2, *SHAPE), LEVELS, SampleRandomness([1, 2]))
    fail_unless(again.nfe == got.nfe, f"a second call of the same model reports {again.nfe}, expected {got.nfe}")
    if case.role == "teacher":
        condition = Condition(label=torch.zeros(2, dtype=torch.int64), guidance=torch.full((2,), 2.0))
        guided = draw(case, [1, 2], condition=condition)
        fail_unless(guided.nfe == 2 * got.nfe, f"{guided.nfe} evaluations with guidance, {got.nfe} without")


@check_sampler.check
def a_sample_is_its_seeds(case: SamplerCase) -> None:
    """The same seed gives the same bits twice and the same sample in any batch; another seed gives another sample."""
    together = draw(case, [7, 8, 9]).x
    fail_unless(torch.equal(together, draw(case, [7, 8, 9]).x), "the same seeds give other samples a second time")
    for seeds in ([7], [9, 8], [8, 9, 10, 7]):
        x = draw(case, seeds).x
        where = [(i, seeds.index(s)) for i, s in enumerate((7, 8, 9)) if s in seeds]
        error = max(float((together[i] - x[j]).abs().max()) for i, j in where)
        fail_unless(error < 1e-4, f"in a batch of {len(seeds)} a sample differs from that in a batch of 3 by {error:.2g}")
    nearest = min(float((together[i] - together[j]).abs().max()) for i, j in ((0, 1), (0, 2), (1, 2)))
    fail_unless(nearest > 1e-3, "two seeds give one sample")


class Drawing(Solver):
    """Draws where the walk begins, and does nothing else."""

    def begin(
        self, problem: Problem, x: Tensor, levels: Sequence[float], randomness: SampleRandomness
    ) -> tuple[Tensor, Any]:
        randomness.normal(x.shape)
        return x, None


@check_sampler.check
def an_identity_problem_changes_no_bit(case: SamplerCase) -> None:
    """A problem whose solver does nothing leaves the samples as they are, and costs nothing; so does one that draws."""
    free = draw(case, [1, 2])
    for solver in (Solver(), Drawing()):
        held = draw(case, [1, 2], problem=Problem(Identity(SHAPE), torch.zeros(1, *SHAPE), 0.0, solver))
        fail_unless(torch.equal(free.x, held.x), f"an identity problem ({type(solver).__name__}) changes the samples")
        fail_unless(free.nfe == held.nfe, f"an identity problem costs {held.nfe - free.nfe} evaluations")


@check_sampler.check
def the_levels_are_visited(case: SamplerCase) -> None:
    """From the first to the last, each of them, in order and none beyond; a callback is told of each."""
    model, told = recorded(case)
    seen: list[StepInfo] = []
    first = case.sampler.sample(model, (1, *SHAPE), LEVELS, SampleRandomness([1]), callback=seen.append).x
    fail_unless(
        math.isclose(told[0], LEVELS[0], rel_tol=1e-4), f"the first evaluation is at {told[0]:g}, not {LEVELS[0]:g}"
    )
    inside = all(LEVELS[-1] * (1 - 1e-4) <= s <= LEVELS[0] * (1 + 1e-4) for s in told)
    fail_unless(inside, f"evaluations at {told} leave the levels {list(LEVELS)}")
    visited = [i for s in told for i, level in enumerate(LEVELS) if math.isclose(s, level, rel_tol=1e-4)]
    fail_unless(sorted(visited) == visited and set(visited) == set(range(len(LEVELS))), f"the levels visited are {told}")
    fail_unless({s.number for s in seen} == set(range(len(LEVELS))), "the callback is not told of every level")
    fail_unless(all(s.total == len(LEVELS) for s in seen), "the callback is told another number of levels")
    fail_unless(seen[0].sigma == LEVELS[0] and seen[0].x0.shape == first.shape, "the callback is told another first level")
    tensor = draw(case, [1], torch.tensor(LEVELS, dtype=torch.float64)).x
    fail_unless(torch.equal(first, tensor), "levels in a tensor give other samples than in a list")


@check_sampler.check
def bad_levels_are_refused(case: SamplerCase) -> None:
    """None, rising, equal, zero, infinite ones and those above the model's range are a UserError."""
    for bad in ([], [1.0, 1.0], [0.5, 1.0], [100.0], [1.0, 0.0], [math.nan], [math.inf]):
        try:
            draw(case, [0], bad)
        except UserError:
            continue
        raise AssertionError(f"levels {bad} are not refused")


@check_sampler.check
def starts_agree(case: SamplerCase) -> None:
    """A shape, the same unit noise as a tensor, and a clean tensor noised to the first level; none is written to."""
    seeds, one = [5, 6], LEVELS[1:2]
    noise = SampleRandomness(seeds).normal((2, *SHAPE))
    clean = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(4))
    kept = noise.clone(), clean.clone()
    by_shape = draw(case, seeds, one).x
    fail_unless(by_shape.shape == (2, *SHAPE), f"a start of shape {(2, *SHAPE)} ends in {tuple(by_shape.shape)}")
    fail_unless(torch.equal(by_shape, draw(case, seeds, one, noise).x), "unit noise in a tensor is not taken as it is")
    fail_unless(
        torch.equal(by_shape, draw(case, seeds, one, Noised(torch.zeros_like(clean))).x), "0, noised, is not pure noise"
    )
    noised, moved = draw(case, seeds, one, Noised(clean)).x, draw(case, seeds, one, clean / one[0] + noise).x
    error = float((noised - moved).abs().max())
    fail_unless(error < 1e-4, f"a clean start is off by {error:.2g} from itself with the noise added by hand")
    draw(case, seeds, LEVELS, noise)
    fail_unless(torch.equal(noise, kept[0]) and torch.equal(clean, kept[1]), "the start is written to")


@check_sampler.check
def one_level_ends_the_trajectory(case: SamplerCase) -> None:
    """From one level the answer is the model's own: the trajectory's end, or a teacher's posterior mean."""
    seeds = list(range(5))
    x = LEVELS[0] * SampleRandomness(seeds).normal((5, *SHAPE))
    exact = PRIOR.denoised(x, LEVELS[0]) if case.role == "teacher" else PRIOR.trajectory(x, LEVELS[0])
    error = float((draw(case, seeds, LEVELS[:1]).x - exact).abs().max())
    fail_unless(error < 1e-3, f"one evaluation at {LEVELS[0]:g} is off by {error:.2g}, prior standard deviation 0.5")


@check_sampler.check
def samples_follow_the_prior(case: SamplerCase) -> None:
    """Mean and covariance of many samples: exact in a few levels of a consistency model, nearly in 100 of a teacher."""
    n = 4000
    levels = karras(100) if case.role == "teacher" else [80.0, 3.0, 0.6, 0.1]
    x = draw(case, range(n), levels).x.flatten(1).double()
    # 4.5 standard errors, and what solving an ODE in 100 steps of first order may add.
    mean = float((x.mean(0) - PRIOR.mean.flatten()).abs().max())
    fail_unless(mean < 4.5 * 0.5 / math.sqrt(n) + 0.01, f"the mean is off by {mean:.2g}, prior standard deviation 0.5")
    spread = float((torch.cov(x.T) - PRIOR.covariance).abs().max())
    limit = 4.5 * 0.25 * math.sqrt(2 / n) + 0.02
    fail_unless(spread < limit, f"the covariance is off by {spread:.2g}, prior variance 0.25")


@dataclass(frozen=True)
class Dictated(Solver):
    """Answers 1 everywhere, names every next tensor and tells the network twice its level; notes what it is shown."""

    shown: list[Step] = field(default_factory=list, compare=False)
    states: list[int] = field(default_factory=list, compare=False)

    def begin(
        self, problem: Problem, x: Tensor, levels: Sequence[float], randomness: SampleRandomness
    ) -> tuple[Tensor, int]:
        return torch.full_like(x, 3.0), 0

    def step(self, problem: Problem, step: Step, state: int) -> StepResult:
        self.shown.append(step)
        self.states.append(state)
        x_next = None if step.sigma_next == 0 else torch.full_like(step.x, step.sigma_next)
        return StepResult(torch.ones_like(step.x0), x_next, 2 * step.sigma_next or None, state + 1)

    def finish(self, problem: Problem, x0: Tensor, state: int) -> Tensor:
        self.states.append(state)
        return x0


@check_sampler.check
def a_problem_is_obeyed(case: SamplerCase) -> None:
    """At the three points where it takes part: where the walk begins, after each evaluation, and at its end."""
    solver = Dictated()
    model, told = recorded(case)
    problem = Problem(Identity(SHAPE), torch.zeros(1, *SHAPE), 0.0, solver)
    got = case.sampler.sample(model, (2, *SHAPE), LEVELS, SampleRandomness([1, 2]), problem=problem)
    fail_unless(bool((solver.shown[0].x == 3).all()), "the tensor that `begin` names is not the first one evaluated")
    fail_unless([s.sigma for s in solver.shown] == list(LEVELS), "with every next tensor named, each level is one step")
    fail_unless(
        [s.sigma_next for s in solver.shown] == [*LEVELS[1:], 0.0], "`step` is told other next levels, or no 0 last"
    )
    taken = all(bool((s.x == s.sigma).all()) for s in solver.shown[1:])
    fail_unless(taken, "the next tensor that `step` names is not the one evaluated")
    expected = [LEVELS[0], *(2 * s for s in LEVELS[1:])]
    as_told = len(told) == len(expected) and all(
        math.isclose(a, b, rel_tol=1e-4) for a, b in zip(told, expected, strict=True)
    )
    fail_unless(as_told, f"the network is told {told}; the solver asked for {expected}")
    fail_unless(solver.states == list(range(len(LEVELS) + 1)), f"the solver's state comes back as {solver.states}")
    error = float((got.x - 1).abs().max())
    fail_unless(error < 1e-5, f"the corrected estimate is 1, the result is off by {error:.2g}")


@check_sampler.check
def the_model_is_left_as_it_was(case: SamplerCase) -> None:
    """Evaluated without dropout and without a graph, and then in its former mode."""
    model, _ = recorded(case)
    modes: list[bool] = []
    model.network.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    got = case.sampler.sample(model.train(), (1, *SHAPE), LEVELS, SampleRandomness([0]))
    fail_unless(not any(modes), "the network is evaluated in training mode")
    fail_unless(model.training, "the model is not put back into training mode")
    fail_unless(not got.x.requires_grad, "the samples hold a graph")
