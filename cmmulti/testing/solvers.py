"""The contract of solvers, on Gaussian priors."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from cmmulti.noise import few_step_levels
from cmmulti.operators.affine import Affine
from cmmulti.operators.mask import Mask
from cmmulti.parameterization import EDM
from cmmulti.problems.base import Noised, Problem, Solver
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.base import Samples
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.ode import Euler, Heun
from cmmulti.testing.gaussian import Gaussian, gaussian_model
from cmmulti.testing.suite import Suite, fail_unless

check_solver: Suite[Solver] = Suite("solver")
"""Run on any solver with its settings. The problem is a mask over correlated elements, exact and noisy.

One that is for exact measurements alone says so:
``check_solver(MySolver(), known_failures={"the_noise_is_heeded": "for exact measurements"})``.
"""

SHAPE = (1, 3, 4)
PRIOR = Gaussian.random(SHAPE, seed=4)
OPERATOR = Mask(torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 1]]).view(1, 1, 3, 4), SHAPE)


def measurement(noise: float, n: int = 1) -> Tensor:
    """(n, *SHAPE) measurements of n draws from the prior."""
    generator = torch.Generator().manual_seed(0)
    y = OPERATOR(PRIOR.sample(n, generator))
    return y + noise * OPERATOR(torch.randn(y.shape, generator=generator, dtype=y.dtype))


def solved(solver: Solver, noise: float = 0.1, seeds: tuple[int, ...] = (1, 2), steps: int = 4, **more: Any) -> Samples:
    """Samples of the measured problem by the exact model, ``steps`` multistep evaluations."""
    problem = Problem(OPERATOR, more.pop("y", measurement(noise)), noise, solver, **more)
    model = gaussian_model(PRIOR, "teacher" if solver.needs_gradient else "consistency")
    return Multistep().sample(model, (len(seeds), *SHAPE), few_step_levels(steps), SampleRandomness(seeds), problem=problem)


@check_solver.check
def finite_with_every_sampler(solver: Solver) -> None:
    """Right shape and finite with multistep, Euler and Heun, one step and several, exact and noisy."""
    model = gaussian_model(PRIOR)
    for noise in (0.0, 0.1, 5.0):
        for sampler in (Multistep(), Euler(), Heun()):
            for steps in (1, 3):
                problem = Problem(OPERATOR, measurement(noise), noise, solver)
                got = sampler.sample(model, (2, *SHAPE), few_step_levels(steps), SampleRandomness([1, 2]), problem=problem)
                where = f"{type(sampler).__name__}, {steps} steps, noise {noise:g}"
                fail_unless(tuple(got.x.shape) == (2, *SHAPE), f"shape {tuple(got.x.shape)} with {where}")
                fail_unless(bool(got.x.isfinite().all()), f"not finite with {where}")
                fail_unless(not got.x.requires_grad, f"the result holds a graph with {where}")


@check_solver.check
def nothing_is_kept_between_runs(solver: Solver) -> None:
    """State goes in and comes out: the same object gives the same bits twice, and equals a fresh copy."""
    first, twin = solved(solver).x, copy.deepcopy(solver)
    fail_unless(torch.equal(first, solved(solver).x), "a second run with the same seeds differs")
    fail_unless(solver == twin and hash(solver) == hash(twin), "the solver is not a value (frozen dataclass)")


@check_solver.check
def samples_stay_apart(solver: Solver) -> None:
    """A batch gives what its seeds give alone, each with its own measurement."""
    y = measurement(0.1, 3)
    together = solved(solver, seeds=(1, 2, 3), y=y).x
    alone = torch.cat([solved(solver, seeds=(s,), y=y[s - 1 : s]).x for s in (1, 2, 3)])
    error = float((together - alone).abs().max())
    fail_unless(error < 1e-4, f"a batch differs from its samples alone by {error:.2g}")


@check_solver.check
def the_data_are_heard(solver: Solver) -> None:
    """The result is far nearer to the measurements than a sample of the prior is."""
    noise = 0.02
    y = measurement(noise)
    free = Multistep().sample(
        gaussian_model(PRIOR, "consistency"), (20, *SHAPE), few_step_levels(4), SampleRandomness(range(20))
    )
    held = solved(solver, noise, tuple(range(20)), steps=12).x
    misfit, unheld = float((OPERATOR(held) - y).norm()), float((OPERATOR(free.x) - y).norm())
    fail_unless(misfit < 0.5 * unheld, f"|A x - y| is {misfit:.3g}, for samples of the prior {unheld:.3g}")


@check_solver.check
def what_was_not_measured_follows(solver: Solver) -> None:
    """Elements are correlated: where nothing was measured, the mean of answers nears that of the posterior."""
    noise = 0.02
    y, apart = measurement(noise), ~OPERATOR.mask[0]
    wanted = PRIOR.posterior(OPERATOR, y[0], noise).mean
    found = solved(solver, noise, tuple(range(200)), steps=12, y=y).x.double().mean(0)
    distance, unheld = (float((v - wanted)[apart].norm()) for v in (found, PRIOR.mean))
    fail_unless(
        distance < 0.9 * unheld,
        f"unmeasured elements are {distance:.3g} from the posterior mean, the prior's mean {unheld:.3g}: the network's"
        " estimates are not corrected on the way",
    )


@check_solver.check
def the_noise_is_heeded(solver: Solver) -> None:
    """Of measurements whose noise is ten times the prior's deviation, no solver reproduces the noise."""
    y = measurement(5.0)
    misfit = float((OPERATOR(solved(solver, 5.0, tuple(range(8)), steps=12, y=y).x) - y).norm() / (8**0.5 * y.norm()))
    fail_unless(misfit > 0.1, f"noise of 5, prior standard deviation 0.5, is fitted to {misfit:.2g} of |y|")


@check_solver.check
def the_valid_range_holds(solver: Solver) -> None:
    """Results stay inside the representation's range; exact data may reach its ends."""
    y = measurement(0.1).clamp(-0.2, 0.3)
    x = solved(solver, valid_range=(-0.2, 0.3), y=y).x
    fail_unless(float(x.min()) >= -0.2 - 1e-6 and float(x.max()) <= 0.3 + 1e-6, "the result leaves valid_range")


@check_solver.check
def any_representation(solver: Solver) -> None:
    """One prior under another gain and offset gives one answer in physical units (levels move with the gain)."""
    answers = []
    for gain, offset in ((1.0, 0.0), (50.0, -3.0)):
        affine = Affine(
            torch.full((1, 1, 1, 1), gain, dtype=torch.float64), torch.full((1, 1, 1, 1), offset), SHAPE[1:], (0, 0)
        )
        problem = Problem.on_item(OPERATOR, measurement(0.1), 0.1, solver, affine, SHAPE)
        role = "teacher" if solver.needs_gradient else "consistency"
        model = gaussian_model(PRIOR.moved(gain, offset), role, EDM(0.5 / gain), sigma_max=80 / gain)  # type: ignore[arg-type]
        # One start in physical units: 0, noised.
        start = Noised(affine.to_model(torch.zeros(2, *SHAPE, dtype=torch.float64), SHAPE[1:], 0.0))
        levels = [v / gain for v in (80.0, 2.0, 0.5, 0.1)]
        answers.append(
            affine.to_item(Multistep().sample(model, start, levels, SampleRandomness([1, 2]), problem=problem).x)
        )
    error = float((answers[0] - answers[1]).abs().max())
    fail_unless(error < 1e-3, f"another gain and offset change the answer by {error:.2g}, prior standard deviation 0.5")


@check_solver.check
def evaluations_are_the_samplers(solver: Solver) -> None:
    """A solver asks for no evaluations of its own, or asks the model, which counts them, and not its network."""
    model = gaussian_model(PRIOR)
    problem = Problem(OPERATOR, measurement(0.1), 0.1, solver)
    calls: list[None] = []
    model.network.register_forward_pre_hook(lambda module, inputs: calls.append(None))
    got = Multistep().sample(model, (1, *SHAPE), few_step_levels(3), SampleRandomness([0]), problem=problem)
    fail_unless(got.nfe == len(calls) >= 3, f"{got.nfe} evaluations reported, {len(calls)} made")
