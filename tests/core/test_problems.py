"""Solvers against closed forms on Gaussian priors."""

import pytest
import torch
from gaussian_problems import (
    MASK,
    OPERATORS,
    PRIOR,
    SHAPE,
    NoNoise,
    at_rest,
    balance,
    measured,
    posterior_mean,
    prior_pull,
    stepped,
)

from cmmulti.model import Model
from cmmulti.operators.affine import Affine
from cmmulti.operators.base import Identity
from cmmulti.operators.fourier import Fourier
from cmmulti.operators.mask import Mask
from cmmulti.parameterization import EDM
from cmmulti.problems.admm import ADMM
from cmmulti.problems.base import Noised, Problem
from cmmulti.problems.dps import DPS
from cmmulti.problems.noisy_replacement import NoisyReplacement
from cmmulti.problems.null_space import NullSpace
from cmmulti.problems.pnp_cm import PnPCM
from cmmulti.problems.proximal_cg import ProximalCG, proximal
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from cmmulti.testing.gaussian import Gaussian, gaussian_model, real_matrix


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(("role", "strength"), [("teacher", 1.0), ("two-time", 1.0), ("consistency", 2.0)])
def test_proximal_cg_rests_where_its_optimality_condition_says(name, role, strength):
    operator, noise, sigma = OPERATORS[name], 0.2, 0.3
    _, y = measured(operator, noise)
    got = at_rest(operator, y, noise, ProximalCG(strength, 40), role, sigma, 150)
    torch.testing.assert_close(got, balance(operator, y, noise, strength * prior_pull(role, sigma)), rtol=0, atol=1e-3)


@pytest.mark.parametrize("solver", [Replacement(), NullSpace(), PnPCM(), ProximalCG(), ADMM(), DPS()], ids=repr)
def test_a_solver_is_given_the_mean_or_the_end_by_what_it_is_derived_for(solver):
    """A model of two times knows both."""
    operator = OPERATORS["mask"]
    z = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    role = "teacher" if isinstance(solver, (ProximalCG, ADMM, DPS)) else "consistency"
    got, want = (
        Multistep().sample(gaussian_model(PRIOR, r), z, [0.7], NoNoise([0]), problem=Problem(operator, z, 0.0, solver)).x
        for r in ("two-time", role)
    )
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("role", "strength"), [("teacher", 1.0), ("consistency", 2.0)])
def test_that_rest_nears_the_posterior_mean_as_the_level_falls(role, strength):
    operator, noise = OPERATORS["resample"], 0.2
    _, y = measured(operator, noise)
    want = posterior_mean(operator, y, noise)
    errors = [(balance(operator, y, noise, strength * prior_pull(role, s)) - want).norm() for s in (0.2, 0.1, 0.01)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2e-3
    # A teacher's is the posterior mean under the prior N(mu, C + s^2).
    if role == "teacher":
        inflated = posterior_mean(operator, y, noise, 0.2**2)
        torch.testing.assert_close(balance(operator, y, noise, prior_pull(role, 0.2)), inflated, rtol=0, atol=1e-9)


def test_proximal_step_solves_its_objective():
    for operator in OPERATORS.values():
        _, y = measured(operator, 0.1)
        problem = Problem(operator, y, 0.3, ProximalCG())
        centre = PRIOR.sample(1, torch.Generator().manual_seed(9))
        got = proximal(problem, centre, sigma=0.7, strength=1.5, iterations=60)
        A = real_matrix(operator)
        target = (torch.view_as_real(y) if y.is_complex() else y).flatten()
        weight = 1.5 * 0.3**2 / 0.7**2
        eye = torch.eye(12, dtype=torch.float64)
        want = torch.linalg.solve(A.T @ A + weight * eye, A.T @ target + weight * centre.flatten())
        torch.testing.assert_close(got.flatten(), want, rtol=0, atol=1e-5)


def test_single_coil_closed_form():
    """k = (w y + k0) / (w + 1) on the mask with w = r^2 / s_y^2."""
    operator = Mask(MASK, SHAPE, complex_domain=True) @ Fourier(SHAPE)
    generator = torch.Generator().manual_seed(2)
    y = MASK * torch.randn(1, *SHAPE, generator=generator, dtype=torch.complex128)
    centre = torch.randn(1, *SHAPE, generator=generator, dtype=torch.complex128)
    got = Fourier(SHAPE)(proximal(Problem(operator, y, 0.3, ProximalCG()), centre, 0.6, 1.0, 20))
    w, k0 = 0.6**2 / 0.3**2, Fourier(SHAPE)(centre)
    torch.testing.assert_close(got, torch.where(MASK > 0, (w * y + k0) / (w + 1), k0), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("solver", [Replacement(), NullSpace()], ids=lambda s: type(s).__name__)
def test_exact_measurements_are_kept_and_the_rest_follows(name, solver):
    """At rest at level s: the posterior mean under N(mu, C + s^2) given y exactly."""
    operator, sigma = OPERATORS[name], 0.2
    _, y = measured(operator, 0.0)
    got = at_rest(operator, y, 0.0, solver, sigma=sigma, steps=150)
    torch.testing.assert_close(operator(got[None]), y, rtol=0, atol=1e-6)
    torch.testing.assert_close(got, posterior_mean(operator, y, 0.0, sigma**2), rtol=0, atol=1e-3)


def test_replacement_is_algorithm_4():
    """Written out for inpainting: y (1 - Om) + x0 Om, noise, again; after the last step too."""
    operator, known = OPERATORS["mask"], MASK.bool()
    _, y = measured(operator, 0.0)
    levels, seeds = [80.0, 1.0, 0.2], [3, 4]
    problem = Problem(operator, y, 0.0, Replacement(), valid_range=(-1.0, 1.0))
    z = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = gaussian_model(PRIOR, "consistency")
    got = Multistep().sample(model, z, levels, SampleRandomness(seeds), problem=problem).x
    draws, x = SampleRandomness(seeds), 80 * z
    for i, t in enumerate(levels):
        x0 = torch.where(known, y, PRIOR.trajectory(x, t).clamp(-1, 1))
        if i + 1 < len(levels):
            x = x0 + levels[i + 1] * draws.normal(x0.shape)
    torch.testing.assert_close(got, x0.clamp(-1, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", [NullSpace(), NoisyReplacement(), NoisyReplacement(eta=0.0)], ids=str)
def test_noise_of_the_state_is_that_of_the_level(solver):
    """Measured coordinates carry the measurement's noise; with what is added the state has exactly sigma_next.

    One step from a delta prior at 0: the next state is noise alone, the measurement's share included.
    """
    n, noise, gain, sigma = 20000, 0.3, 2.0, 0.5
    prior = Gaussian.isotropic((1, 4), 1e-12)
    mask = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    operator = Mask(mask, (1, 4)) @ Affine(
        torch.full((1, 1, 1), gain, dtype=torch.float64), torch.zeros(1, 1, 1), (4,), (0,)
    ).operator((1, 4))
    generator = torch.Generator().manual_seed(1)
    y = mask * noise * torch.randn(n, 1, 4, generator=generator, dtype=torch.float64)
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, x, time, condition, time_next=None):
            seen.append(x)
            return torch.zeros_like(x)

    form = EDM(1e-6)
    problem = Problem(operator, y, noise, solver)
    model = Model(Watched(), form)
    Multistep().sample(model, (n, *prior.shape), [1.0, sigma], SampleRandomness(range(n)), problem=problem)
    state = seen[1].double() / form.coefficients(torch.tensor(sigma, dtype=torch.float64)).c_in
    spread = state.std(0).flatten()
    if solver == NoisyReplacement(eta=0.0):
        # Unmeasured coordinates follow the ODE: (x - 0) / 1 at the new level.
        assert spread[2:].tolist() == pytest.approx([sigma, sigma], rel=0.03)
    assert spread.tolist() == pytest.approx([sigma] * 4, rel=0.03)


def test_null_space_scales_down_measurements_whose_noise_exceeds_the_level():
    """c = 0.1 / 0.3: what was measured brings the level's noise along, and none is added there."""
    n, noise = 4000, 0.3
    operator = Mask(torch.tensor([[[1, 1, 0, 0]]]), (1, 4))
    y = noise * operator(torch.randn(n, 1, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    problem = Problem(operator, y, noise, NullSpace())
    got = stepped(NullSpace(), problem, torch.zeros_like(y), SampleRandomness(range(n)), sigma_next=0.1)
    torch.testing.assert_close(got.x0, y / 3)
    assert got.x_next.std(0).flatten().tolist() == pytest.approx([0.1] * 4, rel=0.05)


def test_null_space_takes_measurements_whose_noise_is_below_the_level_as_they_are():
    """c = 1, and not 1 / 0.3."""
    operator = Mask(torch.tensor([[[1, 1, 0, 0]]]), (1, 4))
    y = torch.tensor([[[0.7, -0.4, 0.0, 0.0]]], dtype=torch.float64)
    problem = Problem(operator, y, 0.3, NullSpace())
    estimate = torch.full_like(y, 2.0)
    got = stepped(NullSpace(), problem, estimate, SampleRandomness([0]), sigma_next=1.0)
    torch.testing.assert_close(got.x0, torch.tensor([[[0.7, -0.4, 2.0, 2.0]]], dtype=torch.float64))


@pytest.mark.parametrize("name", OPERATORS)
def test_noisy_replacement_puts_exact_measurements_into_its_result(name):
    operator = OPERATORS[name]
    _, y = measured(operator, 0.0)
    z = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = Problem(operator, y, 0.0, NoisyReplacement())
    for levels in ([2.0], [2.0, 0.5]):
        got = Multistep().sample(gaussian_model(PRIOR), z, levels, SampleRandomness([0]), problem=problem).x
        torch.testing.assert_close(operator(got), y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", [NullSpace(), NoisyReplacement()], ids=lambda s: type(s).__name__)
def test_noisy_measurements_are_left_to_the_network_at_the_end(solver):
    operator, noise = OPERATORS["mask"], 0.3
    _, y = measured(operator, noise)
    model = gaussian_model(PRIOR)
    z = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = Multistep().sample(model, z, [0.1], NoNoise([0]), problem=Problem(operator, y, noise, solver)).x
    torch.testing.assert_close(one, PRIOR.denoised(0.1 * z, 0.1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(("role", "sigma"), [("teacher", 0.15), ("teacher", 0.5), ("two-time", 0.5)])
def test_admm_rests_at_the_posterior_mean_at_any_level(name, role, sigma):
    operator, noise = OPERATORS[name], 0.2
    _, y = measured(operator, noise)
    got = at_rest(operator, y, noise, ADMM(iterations=30), role, sigma=sigma, steps=250)
    torch.testing.assert_close(got, posterior_mean(operator, y, noise), rtol=0, atol=2e-3)


def test_admm_stays_at_rest_when_the_level_falls():
    """The multiplier stays, so the scaled dual shrinks with sigma^2: one step at half the level moves nothing."""
    operator, noise = OPERATORS["mask"], 0.2
    _, y = measured(operator, noise)
    levels = [*torch.linspace(0.5001, 0.5, 120, dtype=torch.float64).tolist(), 0.25]
    problem = Problem(operator, y, noise, ADMM(iterations=30))
    got = Multistep().sample(gaussian_model(PRIOR), Noised(PRIOR.mean[None]), levels, NoNoise([0]), problem=problem).x[0]
    torch.testing.assert_close(got, posterior_mean(operator, y, noise), rtol=0, atol=2e-3)


@pytest.mark.parametrize(("delta", "strength"), [(0.0, 1.0), (0.5, 1.0), (2.0, 0.3)])
def test_pnp_cm_rests_where_its_optimality_condition_says(delta, strength):
    """``A^T (A z - y) / s_y^2 + strength / s^2 ((C + s'^2)^1/2 C^-1/2 - 1) (z - mu) = 0`` with s' = (1 + delta) s."""
    operator, noise, sigma = OPERATORS["mask"], 0.2, 0.2
    _, y = measured(operator, noise)
    got = at_rest(operator, y, noise, PnPCM(strength, 50, delta, momentum=0.5), "consistency", sigma, 400)
    factors = strength / sigma**2 * ((1 + ((1 + delta) * sigma) ** 2 / PRIOR.variances).sqrt() - 1)
    torch.testing.assert_close(got, balance(operator, y, noise, factors), rtol=0, atol=1e-3)


def test_proximal_cg_renews_a_share_of_the_noise():
    """y = 0 and equal weights: x0 = v / 2; at half the level 0.6 of the noise is fresh, 0.8 is what was there, 0 - x0."""
    solver, v = ProximalCG(eta=0.6), torch.full((2, *SHAPE), 4.0, dtype=torch.float64)
    problem = Problem(Identity(SHAPE), torch.zeros(1, *SHAPE, dtype=torch.float64), 1.0, solver)
    got = stepped(solver, problem, v, SampleRandomness([0, 1]), sigma_next=0.5)
    want = v / 2 + 0.5 * (0.6 * SampleRandomness([0, 1]).normal(v.shape) - 0.8 * v / 2)
    torch.testing.assert_close(got.x_next, want, rtol=0, atol=1e-5)


def test_admm_adds_the_share_of_noise_that_is_asked_for():
    """y = 0 and equal weights: z = v / 2, u = -v / 2, a quarter of it at half the level, and 0.2 of that level's noise."""
    solver, v = ADMM(eta=0.2), torch.full((2, *SHAPE), 4.0, dtype=torch.float64)
    problem = Problem(Identity(SHAPE), torch.zeros(1, *SHAPE, dtype=torch.float64), 1.0, solver)
    got = stepped(solver, problem, v, SampleRandomness([0, 1]), sigma_next=0.5)
    want = v / 2 - v / 8 + 0.5 * 0.2 * SampleRandomness([0, 1]).normal(v.shape)
    torch.testing.assert_close(got.x_next, want, rtol=0, atol=1e-5)


def test_the_momentum_of_pnp_cm_fades():
    """y = 0 and equal weights, v = 4, 8, 1: z = (v - u) / 2 = 2, 5, 3 and u = -z; 0.6 / k times z's step is added."""
    solver, state = PnPCM(momentum=0.6), PnPCM().begin(None, None, None, None)[1]
    problem = Problem(Identity(SHAPE), torch.zeros(1, *SHAPE, dtype=torch.float64), 1.0, solver)
    states = []
    for v in (4.0, 8.0, 1.0):
        got = stepped(solver, problem, torch.full((1, *SHAPE), v, dtype=torch.float64), NoNoise([0]), state)
        state = got.state
        states.append(float(got.x_next.flatten()[0]))
    assert states == pytest.approx([0, 0.6 / 2 * 3, 0.6 / 3 * -2], abs=1e-5)


def test_the_dual_of_pnp_cm_shrinks_with_the_level():
    """y = 0 and equal weights, v = 4: z = 2 and u = -2; the penalty goes with 1 / sigma^2, u at half the level is -1/2."""
    solver, state = PnPCM(), PnPCM().begin(None, None, None, None)[1]
    problem = Problem(Identity(SHAPE), torch.zeros(1, *SHAPE, dtype=torch.float64), 1.0, solver)
    v = torch.full((1, *SHAPE), 4.0, dtype=torch.float64)
    got = stepped(solver, problem, v, NoNoise([0]), state, sigma_next=0.5)
    torch.testing.assert_close(got.x_next, torch.full_like(v, 2 - 0.5), rtol=0, atol=1e-5)


def test_pnp_cm_tells_another_level_than_was_added():
    told = []

    class Listening(torch.nn.Module):
        def forward(self, x, time, condition, time_next=None):
            told.append(float(EDM().to_sigma(time)[0]))
            return torch.zeros_like(x)

    problem = Problem(Identity(SHAPE), torch.zeros(1, *SHAPE), 0.1, PnPCM(delta=0.5))
    model = Model(Listening(), EDM(), "consistency", sigma_max=20.0)
    Multistep().sample(model, (1, *SHAPE), [20.0, 15.0, 2.0, 1.0], SampleRandomness([0]), problem=problem)
    assert told == pytest.approx([20.0, 20.0, 3.0, 1.5], rel=1e-5)
