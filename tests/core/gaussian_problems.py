"""Problems on one Gaussian prior, and where solvers of them must end: what the tests of solvers share."""

import torch

from cmmulti.conditioning import NO_CONDITION
from cmmulti.operators.fourier import Fourier, Phase
from cmmulti.operators.mask import Mask
from cmmulti.operators.resample import BlockMean, Resample
from cmmulti.operators.restriction import Restriction
from cmmulti.operators.stack import Stack
from cmmulti.problems.base import Noised, Problem, Step
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from cmmulti.testing.gaussian import Gaussian, gaussian_model, real_matrix

SHAPE = (1, 3, 4)
PRIOR = Gaussian.random(SHAPE, seed=4)
MASK = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 1]]).view(1, 1, 3, 4)
OPERATORS = {
    "mask": Mask(MASK, SHAPE),
    "block-mean": BlockMean(SHAPE, (1, 2)),
    "resample": Resample(SHAPE, (2, 3)),
    "k-space": Mask(MASK[:, :, :1], SHAPE, complex_domain=True)
    @ Fourier(SHAPE)
    @ Phase(torch.linspace(-1, 1, 12, dtype=torch.float64).view(1, *SHAPE)),
    "stack": Stack([BlockMean(SHAPE, (1, 2)), Restriction(MASK[0], SHAPE)]),
}


class NoNoise(SampleRandomness):
    """Every draw is 0: what solvers and Gaussian models compute is then the mean, for all of it is linear."""

    def normal(self, shape, device="cpu"):
        return torch.zeros(tuple(shape), dtype=torch.float64)


def measured(operator, noise, seed=0):
    """One true x0 and its measurement."""
    generator = torch.Generator().manual_seed(seed)
    x0 = PRIOR.sample(1, generator)
    y = operator(x0)
    return x0, y + noise * torch.randn(y.shape, generator=generator, dtype=y.dtype) * (2**0.5 if y.is_complex() else 1)


def stepped(solver, problem, x0, randomness, state=None, sigma_next=1.0):
    """One step of the solver from level 1, where the network's estimate is ``x0``."""
    step = Step(torch.zeros_like(x0), 1.0, sigma_next, x0, gaussian_model(PRIOR), NO_CONDITION, randomness)
    return solver.step(problem, step, state)


def at_rest(operator, y, noise, solver, role="teacher", sigma=0.02, steps=400):
    """Where the mean goes in many steps at nearly one level."""
    levels = torch.linspace(sigma * 1.0001, sigma, steps, dtype=torch.float64)
    problem = Problem(operator, y, noise, solver)
    start = Noised(PRIOR.mean[None])
    return Multistep().sample(gaussian_model(PRIOR, role), start, levels, NoNoise([0]), problem=problem).x[0]


def posterior_mean(operator, y, noise, inflation=0.0):
    prior = Gaussian(PRIOR.mean, PRIOR.variances + inflation, PRIOR.basis)
    return prior.posterior(operator, y[0], noise).mean


def prior_pull(role, sigma):
    """What a step of the network pulls by, per coordinate of the basis: ``(x - estimate) / sigma^2``."""
    shrunk = PRIOR.variances / (PRIOR.variances + sigma**2)
    return (1 - (shrunk.sqrt() if role == "consistency" else shrunk)) / sigma**2


def balance(operator, y, noise, factors):
    """Solves ``A^T (A m - y) / s_y^2 + U factors U^T (m - mu) = 0``."""
    A, mu = real_matrix(operator), PRIOR.mean.flatten()
    target = (torch.view_as_real(y) if y.is_complex() else y).flatten()
    pull = (PRIOR.basis * factors) @ PRIOR.basis.T
    return torch.linalg.solve(A.T @ A / noise**2 + pull, A.T @ target / noise**2 + pull @ mu).unflatten(0, SHAPE)
