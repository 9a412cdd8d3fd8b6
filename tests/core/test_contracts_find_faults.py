"""Plug-ins with one flaw each, which the contract suites must find."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION, NULL_LABEL
from cmmulti.methods.ect import ECT
from cmmulti.methods.edm import EDM as Denoising
from cmmulti.nn.unet import UNet
from cmmulti.operators.channels import ChannelMix
from cmmulti.operators.fourier import Phase
from cmmulti.parameterization import EDM, TrigFlow
from cmmulti.problems.base import Solver
from cmmulti.problems.proximal_cg import ProximalCG
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import TrainingRandomness
from cmmulti.samplers.multistep import Multistep
from cmmulti.testing import (
    NetworkCase,
    SamplerCase,
    check_method,
    check_network,
    check_operator,
    check_parameterization,
    check_sampler,
    check_solver,
)

D = (3, 5, 6)
SHORT = torch.tensor([[0.3, 0.6, 0.1], [1.0, -1.0, 0.0]])
TALL = torch.cat([torch.eye(3), torch.ones(1, 3)])


def found(suite, check, piece, told):
    """The check says what is wrong with the piece."""
    with pytest.raises(AssertionError, match=told):
        suite.checks[check](piece)


class NegativeAdjoint(ChannelMix):
    def backward(self, y):
        return -super().backward(y)


class TwiceTheAdjoint(ChannelMix):
    def backward(self, y):
        return 2 * super().backward(y)


class NotConjugated(Phase):
    def backward(self, y):
        return (y * self.factor.to(y)).real


class AdjointForInverse(ChannelMix):
    def pinv(self, y):
        return self.adjoint(y)


class InverseOfThreeRows(ChannelMix):
    """Right for every image of the operator, and so for exact measurements: not the nearest to noisy ones."""

    def pinv(self, y):
        return y[:, :3].clone()


class DoubleInverse(ChannelMix):
    def pinv(self, y):
        return super().pinv(y.double())


@pytest.mark.parametrize(
    ("operator", "check", "told"),
    [
        (NegativeAdjoint(SHORT, D), "adjoint", "differ by"),
        (TwiceTheAdjoint(SHORT, D), "adjoint", "differ by"),
        (NotConjugated(torch.linspace(-3, 3, 90).view(1, *D)), "adjoint", "differ by"),
        (AdjointForInverse(SHORT, D), "pseudo_inverse", "differs from A x"),
        (InverseOfThreeRows(TALL, D), "least_squares", r"A\^H \(A A\^\+ y - y\) is"),
        (DoubleInverse(SHORT, D), "least_squares", "single precision is torch.float64"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else v,
)
def test_operators(operator, check, told):
    found(check_operator, check, operator, told)


@dataclasses.dataclass(frozen=True)
class OnlyAtTheEnd(Solver):
    """The measurements are put into a sample that has nothing to do with them."""

    def finish(self, problem, x0, state):
        return problem.projected(x0)


@dataclasses.dataclass(frozen=True)
class DeafToNoise(ProximalCG):
    def step(self, problem, step, state):
        return super().step(dataclasses.replace(problem, noise=0.0), step, state)


@dataclasses.dataclass(frozen=True)
class BehindTheModel(Replacement):
    """One evaluation more than is reported: the network is asked, not the model that counts."""

    def step(self, problem, step, state):
        step.model.network(step.x, torch.zeros(len(step.x)))
        return super().step(problem, step, state)


@dataclasses.dataclass(frozen=True)
class FirstMeasurementForAll(Replacement):
    def step(self, problem, step, state):
        return super().step(dataclasses.replace(problem, y=problem.y[:1]), step, state)


@pytest.mark.parametrize(
    ("solver", "check", "told"),
    [
        (OnlyAtTheEnd(), "what_was_not_measured_follows", "estimates are not corrected on the way"),
        (DeafToNoise(), "the_noise_is_heeded", "noise of 5, .* is fitted"),
        (Replacement(), "the_noise_is_heeded", "noise of 5, .* is fitted"),
        (BehindTheModel(), "evaluations_are_the_samplers", "3 evaluations reported, 6 made"),
        (FirstMeasurementForAll(), "samples_stay_apart", "a batch differs"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else v,
)
def test_solvers(solver, check, told):
    found(check_solver, check, solver, told)


class NoisyEnd(Multistep):
    """Stops at the last level instead of its estimate; in one step it is right."""

    def walk(self, walk, x):
        x0 = super().walk(walk, x)
        return x0 if len(walk.levels) == 1 else x0 + walk.levels[-1] * walk.randomness.normal(x0.shape)


class OneNoise(Multistep):
    """The same noise at every level."""

    def walk(self, walk, x):
        noise = walk.randomness.normal(x.shape)
        for i, (sigma, after) in enumerate(zip(walk.levels, [*walk.levels[1:], 0.0], strict=True)):
            x = walk.evaluate(x, i, sigma, after).x0 + after * noise
        return x


class Lagging(Multistep):
    """Noise of the level before."""

    def walk(self, walk, x):
        for i, (sigma, after) in enumerate(zip(walk.levels, [*walk.levels[1:], 0.0], strict=True)):
            x0 = walk.evaluate(x, i, sigma, after).x0
            x = x0 + sigma * walk.randomness.normal(x.shape)
        return x0


@pytest.mark.parametrize(
    ("sampler", "check"),
    [
        (NoisyEnd(), "a_problem_is_obeyed"),
        (OneNoise(), "samples_follow_the_prior"),
        (Lagging(), "samples_follow_the_prior"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else v,
)
def test_samplers(sampler, check):
    found(check_sampler, check, SamplerCase(sampler, "consistency"), "is off by")


class LateTime(EDM):
    """Tells the network another time in its estimate than on its native process."""

    def coefficients(self, sigma):
        found = super().coefficients(sigma)
        return found._replace(c_noise=found.c_noise + 1)


class TwiceTheScale(TrigFlow):
    def scale(self, sigma):
        return 2 * super().scale(sigma)


@pytest.mark.parametrize(
    ("form", "told"), [(LateTime(), "c_noise differs"), (TwiceTheScale(), "scale times network_input differs from c_in")]
)
def test_parameterizations(form, told):
    found(check_parameterization, "one_network_on_both_processes", form, told)


class ForgetsTime(UNet):
    """Where the label is dropped, so is the time."""

    def forward(self, x, time, condition=NO_CONDITION, time_next=None):
        if condition.label is None:
            return super().forward(x, 0 * time, condition)
        return super().forward(x, torch.where(condition.label == NULL_LABEL, 0.0, time), condition)


def test_networks():
    network = ForgetsTime(2, 1, (8, 8), classes=3)
    found(check_network, "hears_its_inputs", NetworkCase(network, classes=3), "a dropped label drops the time")


class Blind(ECT):
    """Its random numbers do not depend on one part of their key."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def loss(self, model, x0, condition, progress, randomness):
        randomness = dataclasses.replace(randomness, **{self.part: 0})
        return super().loss(model, x0, condition, progress, randomness)


@pytest.mark.parametrize("part", ["seed", "step", "rank", "micro"])
def test_methods_whose_draws_repeat(part):
    found(check_method, "same_seed_same_number", Blind(part), f"another {part} gives the same loss")


class Louder(TrainingRandomness):
    def normal_like(self, x, purpose="noise"):
        return 1.1 * super().normal_like(x, purpose)


class TooMuchNoise(Denoising):
    def loss(self, model, x0, condition, progress, randomness):
        louder = Louder(**vars(randomness))
        return super().loss(model, x0, condition, progress, louder)


class DataTooSmall(Denoising):
    def loss(self, model, x0, condition, progress, randomness):
        return super().loss(model, 0.9 * x0, condition, progress, randomness)


@pytest.mark.parametrize("method", [TooMuchNoise(), DataTooSmall()], ids=lambda m: type(m).__name__)
def test_teachers_that_come_to_rest_a_tenth_off(method):
    found(check_method, "a_student_off_its_answer_is_pulled_back", method, "is not led back")
