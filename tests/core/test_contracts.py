"""Everything that the registry finds, and every parameterization, under the contract suites."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from cmmulti.parameterization import DDPM, EDM, KINDS, Consistency, Flow, FlowToData, TrigFlow
from cmmulti.problems.admm import ADMM
from cmmulti.problems.base import Solver
from cmmulti.problems.pnp_cm import PnPCM
from cmmulti.problems.proximal_cg import ProximalCG
from cmmulti.samplers.dpm_solver import DPMSolver
from cmmulti.samplers.jumps import Jumps
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.named import SAMPLERS as NAMED
from cmmulti.samplers.ode import Euler, Heun, StochasticHeun
from cmmulti.testing import (
    NetworkCase,
    SamplerCase,
    Suite,
    check_network,
    check_parameterization,
    check_sampler,
    check_solver,
)
from cmmulti.testing.tiny import solvers

BARS = tuple(float(b) for b in torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0))
FORMS = {
    "edm": EDM(),
    "edm-scaled": EDM(0.13),
    "consistency": Consistency(),
    "trigflow": TrigFlow(1.0),
    "flow": Flow(),
    "flow-to-data": FlowToData(),
    "ddpm-epsilon": DDPM(BARS),
    "ddpm-v": DDPM(BARS, "v"),
}
SOLVERS = {
    **solvers(),
    "proximal-cg-half": ProximalCG(eta=0.5),
    "admm-quiet": ADMM(eta=0.0),
    "pnp-cm-momentum": PnPCM(delta=1.0, momentum=0.5),
}
SAMPLERS = {
    "multistep": SamplerCase(Multistep(), "consistency"),
    "jumps": SamplerCase(Jumps(), "two-time"),
    "euler": SamplerCase(Euler(), "teacher"),
    "heun": SamplerCase(Heun(), "teacher"),
    "stochastic-heun": SamplerCase(StochasticHeun(), "teacher"),
    "dpm-solver++": SamplerCase(DPMSolver(), "teacher"),
}


def test_every_sampler_is_here():
    assert {name: type(case.sampler) for name, case in SAMPLERS.items()} == NAMED


def test_every_parameterization_is_here():
    assert {form.kind for form in FORMS.values()} == set(KINDS)


@pytest.mark.parametrize(**check_parameterization.cases(FORMS))
def test_parameterization(check, piece):
    check(piece)


# Replacement is for exact measurements alone.
@pytest.mark.parametrize(**check_solver.cases(SOLVERS, {"the_noise_is_heeded": {"replacement"}}))
def test_solver(check, piece):
    check(piece)


@pytest.mark.parametrize(**check_sampler.cases(SAMPLERS))
def test_sampler(check, piece):
    check(piece)


def test_the_suites_find_faults():
    class Shifted(EDM):
        def to_sigma(self, t):
            return 1.01 * super().to_sigma(t)

    with pytest.raises(AssertionError, match="native_time_round_trip"):
        check_parameterization(Shifted())
    # Hears no data: every other check passes.
    with pytest.raises(AssertionError, match=r"^solver Solver: the_data_are_heard: [^;]*; what_was_not_measured[^;]*$"):
        check_solver(Solver())


class GlobalNoise(Multistep):
    def walk(self, walk, x):
        return super().walk(walk, x + 0.1 * torch.randn(x.shape))


class SkipsTheLast(Multistep):
    def walk(self, walk, x):
        return super().walk(dataclasses.replace(walk, levels=walk.levels[:-1] or walk.levels), x)


class DeafToProblems(Euler):
    def walk(self, walk, x):
        for sigma, sigma_next in itertools.pairwise([*walk.levels, 0.0]):
            x0 = walk.evaluate(x, walk.levels.index(sigma), sigma, sigma_next).x0
            x = x0 + sigma_next / sigma * (x - x0)
        return x


class Uncounted(Heun):
    def sample(self, *args, **more):
        return super().sample(*args, **more)._replace(nfe=1)


class HalfWay(Euler):
    def walk(self, walk, x):
        return 0.9 * super().walk(walk, x)


@pytest.mark.parametrize(
    ("sampler", "role", "found"),
    [
        (GlobalNoise(), "consistency", "a_sample_is_its_seeds"),
        (SkipsTheLast(), "consistency", "the_levels_are_visited"),
        (DeafToProblems(), "teacher", "a_problem_is_obeyed"),
        (Uncounted(), "teacher", "evaluations_are_counted"),
        (HalfWay(), "teacher", "one_level_ends_the_trajectory"),
        (HalfWay(), "teacher", "samples_follow_the_prior"),
        (Multistep(), "teacher", "samples_follow_the_prior"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_the_sampler_suite_finds_faults(sampler, role, found):
    with pytest.raises(AssertionError):
        check_sampler.checks[found](SamplerCase(sampler, role))


def test_known_failures_are_strict():
    suite = Suite("thing")

    @suite.check
    def fits(piece):
        assert piece == 1

    suite(1)
    suite(2, known_failures={"fits": "two does not"})
    with pytest.raises(AssertionError, match="fits: passes, though"):
        suite(1, known_failures={"fits": "one does not"})
    with pytest.raises(ValueError, match="no check is called 'fit'"):
        suite(1, known_failures={"fit": "misspelt"})


def test_a_failure_names_the_piece_and_not_its_case():
    class Broken(nn.Module):
        def forward(self, x, time, condition=None, time_next=None):
            raise NotImplementedError

    with pytest.raises(AssertionError, match=r"^network Broken: any_spatial_size: NotImplementedError"):
        check_network(NetworkCase(Broken()))


def test_a_network_that_mixes_samples_in_training_is_found():
    """Batch norm keeps samples apart in evaluation mode alone; dropout draws for each and is no fault."""

    class Mixed(nn.Module):
        def __init__(self, *layers):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(1, 4, 1), *layers, nn.Conv2d(4, 1, 1))

        def forward(self, x, time, condition=None, time_next=None):
            return self.layers(x)

    check = check_network.checks["samples_stay_apart"]
    check(NetworkCase(Mixed(nn.GroupNorm(2, 4))))
    check(NetworkCase(Mixed(nn.Dropout(0.5))))
    with pytest.raises(AssertionError, match="in training mode a sample depends on those beside it"):
        check(NetworkCase(Mixed(nn.BatchNorm2d(4))))
