"""Diffusion posterior sampling against closed forms on Gaussian priors."""

import pytest
import torch
from gaussian_problems import (
    OPERATORS,
    PRIOR,
    SHAPE,
    measured,
    posterior_mean,
)

from cmmulti.problems.base import Problem
from cmmulti.problems.dps import DPS
from cmmulti.problems.proximal_cg import ProximalCG
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.ode import Euler, Heun
from cmmulti.testing.gaussian import Gaussian, gaussian_model, real_matrix


@pytest.mark.parametrize("name", ["mask", "k-space", "stack"])
def test_dps_is_the_best_step_along_the_gradient(name):
    """``d = J^T A^T (A D(x) - y)`` with ``J = C (C + s^2)^-1``, then the exact minimum along it."""
    operator, noise, sigma = OPERATORS[name], 0.2, 0.6
    _, y = measured(operator, noise)
    z = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got, half = (
        Euler().sample(gaussian_model(PRIOR), z, [sigma], SampleRandomness([0]), problem=Problem(operator, y, noise, s)).x
        for s in (DPS(), DPS(strength=0.5))
    )
    A, target = real_matrix(operator), (torch.view_as_real(y) if y.is_complex() else y).flatten()
    x0 = PRIOR.denoised(sigma * z, sigma).flatten()
    J = (PRIOR.basis * (PRIOR.variances / (PRIOR.variances + sigma**2))) @ PRIOR.basis.T
    d = J.T @ A.T @ (A @ x0 - target)
    rate = d @ A.T @ (A @ x0 - target) / ((A @ d) @ (A @ d) + noise**2 / sigma**2 * d @ d)
    torch.testing.assert_close(got.flatten(), x0 - rate * d, rtol=0, atol=1e-9)
    torch.testing.assert_close(half.flatten(), x0 - rate / 2 * d, rtol=0, atol=1e-9)


def test_dps_on_independent_coordinates_is_the_proximal_step():
    prior = Gaussian.isotropic(SHAPE, 0.3)
    operator, noise = OPERATORS["mask"], 0.2
    y = operator(prior.sample(1, torch.Generator().manual_seed(1)))
    z = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    answers = [
        Euler()
        .sample(gaussian_model(prior), z, [0.5], SampleRandomness([0]), problem=Problem(operator, y, noise, solver))
        .x
        for solver in (DPS(), ProximalCG(iterations=50))
    ]
    torch.testing.assert_close(*answers, rtol=0, atol=1e-6)


def test_dps_reaches_the_posterior_mean_with_many_steps():
    """Guided by the gradient, the teacher's ODE ends near the data and within the prior."""
    operator, noise = OPERATORS["mask"], 0.05
    _, y = measured(operator, noise)
    levels = torch.logspace(0.5, -2, 60, dtype=torch.float64)
    problem = Problem(operator, y, noise, DPS())
    got = Heun().sample(gaussian_model(PRIOR), (200, *SHAPE), levels, SampleRandomness(range(200)), problem=problem).x
    error = (got.double().mean(0) - posterior_mean(operator, y, noise)).norm()
    prior_error = (PRIOR.mean - posterior_mean(operator, y, noise)).norm()
    assert error < 0.35 * prior_error
