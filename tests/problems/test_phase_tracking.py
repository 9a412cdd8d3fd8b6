"""A real image with an unknown smooth phase: the phase is found, and the image with it."""

from dataclasses import replace

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION
from cmmulti.operators.affine import Affine
from cmmulti.operators.base import Identity
from cmmulti.operators.fourier import Fourier
from cmmulti.operators.mask import Mask
from cmmulti.problems.base import Noised, Step
from cmmulti.problems.phase_tracking import PhaseTracking
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from cmmulti.testing.gaussian import Gaussian, gaussian_model

SHAPE = (1, 12, 10)


@pytest.fixture
def scene():
    """Two real positive images, a phase of half a wave, all lines but a few at the edge."""
    generator = torch.Generator().manual_seed(0)
    prior = Gaussian.isotropic(SHAPE, 0.01, mean=1.0)
    x = prior.sample(2, generator)
    phase = 0.7 + 1.5 * torch.sin(torch.linspace(0, torch.pi, 10, dtype=torch.float64)).expand(2, *SHAPE)
    mask = torch.ones(1, 1, 1, 10)
    mask[..., [0, 9]] = 0
    acquisition = Mask(mask, SHAPE, complex_domain=True) @ Fourier(SHAPE)
    solver = PhaseTracking(
        iterations=20,
        acquisition=acquisition,
        arrangement=Identity(SHAPE),
        measured=acquisition(torch.polar(x, phase)),
        phase=phase + 0.3,
        window=torch.outer((torch.arange(12) == 6).double(), ((torch.arange(10) - 5).abs() < 4).double()),
        affine=Affine(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), SHAPE[1:], (0, 0)),
        model_shape=SHAPE,
    )
    return prior, x, phase, solver


def solved(prior, solver, levels=(0.3, 0.2, 0.1, 0.05), noise=0.0):
    """From 0 in the item's own units, noised to the first level."""
    problem = solver.problem(noise, None, 0.0)
    start = Noised(solver.affine.to_model(torch.zeros(2, *SHAPE, dtype=torch.float64), SHAPE[1:], 0.0))
    return Multistep().sample(gaussian_model(prior), start, levels, SampleRandomness([0, 1]), problem=problem).x.double()


def test_tracking_beats_a_wrong_fixed_phase(scene):
    prior, x, phase, solver = scene
    tracked = (solved(prior, solver) - x).norm()
    fixed = (solved(prior, replace(solver, window=None)) - x).norm()
    right = (solved(prior, replace(solver, window=None, phase=phase)) - x).norm()
    assert tracked < 0.5 * fixed
    assert right < tracked


def test_the_phase_of_a_step_is_where_the_next_one_begins(scene):
    prior, x, phase, solver = scene
    problem = solver.problem(0.0, None, 0.0)
    _, first = solver.begin(problem, x, [0.3], None)
    step = Step(x, 0.3, 0.1, x, gaussian_model(prior), NO_CONDITION, SampleRandomness([0, 1]))
    found = solver.step(problem, step, first).state
    torch.testing.assert_close(found, solver.tracked(solver.window, 0.0, x, 0.3, first))
    assert (found - phase).norm() < 0.5 * (first - phase).norm()


def test_the_phase_is_that_of_a_mean_of_measurement_and_estimate(scene):
    """Of all k-space, not smoothed: ``(y + w r exp(i phi)) / (1 + w)`` with y = 3i, r = 2, phi = 0, w = (0.4 / 0.2)^2."""
    solver = scene[3]
    y, r = torch.full((1, *SHAPE), 3j, dtype=torch.complex128), torch.full((1, *SHAPE), 2.0, dtype=torch.float64)
    acquisition = Fourier(SHAPE)
    whole = replace(solver, acquisition=acquisition, measured=acquisition(y))
    found = whole.tracked(torch.ones(SHAPE[1:], dtype=torch.float64), 0.4, r, 0.2, torch.zeros_like(r))
    torch.testing.assert_close(found, torch.atan2(torch.full_like(r, 3.0), 4 * r))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_answer_does_not_depend_on_gain_and_offset(scene, noise):
    prior, _, _, solver = scene
    gain, offset = 2.0, 0.5
    one = torch.ones(1, 1, 1, 1)
    moved = replace(solver, affine=Affine(gain * one, offset * one, SHAPE[1:], (0, 0)))
    levels = (0.3, 0.1)
    there = solved(prior.moved(gain, offset), moved, [v / gain for v in levels], noise)
    torch.testing.assert_close(gain * there + offset, solved(prior, solver, levels, noise), rtol=1e-5, atol=1e-5)
