"""Samplers where the right answer is known: Gaussian priors."""

import math

import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.noise import check_levels, few_step_levels, karras
from cmmulti.operators.base import Identity
from cmmulti.parameterization import Consistency, TrigFlow
from cmmulti.problems.base import Noised, Problem, Solver
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.ode import Euler, Heun
from cmmulti.testing.gaussian import Gaussian, gaussian_model

SHAPE = (2, 3)
PRIOR = Gaussian.random(SHAPE, seed=1)
SAMPLERS = [Multistep(), Euler(), Heun()]


def start(n=5, sigma=80.0):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def error_of(sampler, n):
    model = gaussian_model(PRIOR)
    z = start()
    got = sampler.sample(model, z, karras(n), SampleRandomness(range(5))).x
    # The last step goes from sigma_min to 0 by the denoiser, exact to sigma_min^2.
    return float((got - PRIOR.trajectory(80 * z, 80.0)).norm())


@pytest.mark.parametrize(("sampler", "order", "n"), [(Euler(), 1, 120), (Heun(), 2, 60)], ids=["euler", "heun"])
def test_ode_solvers_converge_at_their_order(sampler, order, n):
    ratio = error_of(sampler, n) / error_of(sampler, 2 * n)
    assert math.log2(ratio) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("form", [None, Consistency(), TrigFlow()], ids=["edm", "consistency", "trigflow"])
def test_one_step_is_the_trajectory(form):
    model = gaussian_model(PRIOR, "consistency", form)
    z = start()
    got = Multistep().sample(model, z, [80.0], SampleRandomness(range(5)))
    want = PRIOR.trajectory(80 * z, 80.0, model.sigma_boundary)
    torch.testing.assert_close(got.x, want, rtol=1e-9, atol=1e-9)
    assert got.nfe == 1


def test_one_step_with_two_times_is_the_trajectory():
    model = gaussian_model(PRIOR, "two-time")
    z = start()
    got = Multistep().sample(model, z, [80.0], SampleRandomness(range(5)))
    torch.testing.assert_close(got.x, PRIOR.trajectory(80 * z, 80.0, 0.0), rtol=1e-6, atol=1e-6)


def test_multistep_is_algorithm_1():
    """Written out: x0 = f(x, t); x <- x0 + sqrt(t'^2 - eps^2) z."""
    model = gaussian_model(PRIOR, "consistency", Consistency())
    levels, z = [80.0, 2.0, 0.5], start()
    got = Multistep().sample(model, z, levels, SampleRandomness(range(5)))
    draws = SampleRandomness(range(5))
    x, eps = 80.0 * z, 0.002
    x0 = x
    for i, t in enumerate(levels):
        if i:
            x = x0 + math.sqrt(t**2 - eps**2) * draws.normal((5, *SHAPE))
        x0 = PRIOR.trajectory(x, t, eps)
    torch.testing.assert_close(got.x, x0, rtol=1e-8, atol=1e-8)
    assert got.nfe == 3


def test_samples_follow_the_prior():
    """Mean and covariance of many samples, one and four steps."""
    n = 4000
    prior = Gaussian.random((1, 4), seed=5)
    model = gaussian_model(prior, "consistency")
    for levels in ([80.0], [80.0, 3.0, 0.6, 0.1]):
        x = Multistep().sample(model, (n, 1, 4), levels, SampleRandomness(range(n))).x.flatten(1).double()
        assert (x.mean(0) - prior.mean.flatten()).abs().max() < 4.5 * 0.5 / math.sqrt(n)
        assert (torch.cov(x.T) - prior.covariance).abs().max() < 4.5 * 0.25 * math.sqrt(2 / n)


@pytest.mark.parametrize(("sampler", "nfe"), [(Multistep(), 6), (Euler(), 6), (Heun(), 11)], ids=["multi", "euler", "heun"])
def test_evaluations_are_counted(sampler, nfe):
    model = gaussian_model(PRIOR)
    assert sampler.sample(model, (2, *SHAPE), karras(6), SampleRandomness(range(2))).nfe == nfe


def test_guidance_counts_twice():
    from cmmulti.conditioning import Condition

    model = gaussian_model(PRIOR)
    condition = Condition(label=torch.zeros(2, dtype=torch.int64), guidance=torch.full((2,), 2.0))
    assert Euler().sample(model, (2, *SHAPE), karras(3), SampleRandomness(range(2)), condition).nfe == 6


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
class TestLaws:
    levels = (20.0, 2.0, 0.4)

    def draw(self, sampler, seeds, **more):
        model = gaussian_model(PRIOR, "teacher")
        return sampler.sample(model, (len(seeds), *SHAPE), self.levels, SampleRandomness(seeds), **more).x

    def test_same_seed_same_bits(self, sampler):
        assert torch.equal(self.draw(sampler, [3, 4]), self.draw(sampler, [3, 4]))

    def test_a_batch_is_its_singles(self, sampler):
        batch = self.draw(sampler, [7, 8, 9])
        singles = torch.cat([self.draw(sampler, [s]) for s in (7, 8, 9)])
        torch.testing.assert_close(batch, singles, rtol=1e-5, atol=1e-5)

    def test_an_identity_problem_changes_no_bit(self, sampler):
        problem = Problem(Identity(SHAPE), torch.zeros(1, *SHAPE), 0.0, Solver())
        assert torch.equal(self.draw(sampler, [1, 2], problem=problem), self.draw(sampler, [1, 2]))

    def test_a_callback_sees_every_evaluation(self, sampler):
        seen = []
        self.draw(sampler, [1], callback=lambda info: seen.append(info))
        assert [info.number for info in seen] == sorted(info.number for info in seen)
        assert {info.sigma for info in seen} == set(self.levels)
        assert seen[0].total == 3

    def test_inputs_and_mode_stay(self, sampler):
        z = start(2).float()
        model = gaussian_model(PRIOR, "teacher").train()
        before = z.clone()
        sampler.sample(model, z, self.levels, SampleRandomness(range(2)))
        assert torch.equal(z, before)
        assert model.training

    def test_a_clean_start_is_noised_to_the_first_level(self, sampler):
        clean = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(4))
        model = gaussian_model(PRIOR, "consistency")
        got = Multistep().sample(model, Noised(clean), [0.7], SampleRandomness([5, 6])).x
        x = clean + 0.7 * SampleRandomness([5, 6]).normal(clean.shape)
        torch.testing.assert_close(got, PRIOR.trajectory(x, 0.7), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("levels", [[], [1.0, 1.0], [0.5, 1.0], [100.0], [1.0, 0.0], [math.nan]])
    def test_bad_levels_are_refused(self, sampler, levels):
        with pytest.raises(UserError, match="levels: expected"):
            sampler.sample(gaussian_model(PRIOR), (1, *SHAPE), levels, SampleRandomness([0]))


def test_karras_grid():
    levels = karras(18)
    assert (float(levels[0]), float(levels[-1])) == (80.0, 0.002)
    want = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    torch.testing.assert_close(levels, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=0)
    # Published midpoints: index 11 of 18, 22 of 40, 106 of 201.
    assert float(levels[11]) == pytest.approx(0.585, abs=1e-3)
    assert float(karras(40)[22]) == pytest.approx(1.382, abs=1e-3)
    assert float(karras(201)[106]) == pytest.approx(1.913, abs=1e-3)
    assert karras(1).tolist() == [80.0]
    with pytest.raises(UserError, match="steps"):
        karras(0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
def test_few_step_levels_decrease(n):
    for top in (80.0, 20.0, 1.0, 0.1):
        assert len(check_levels(few_step_levels(n, top), top)) == n
