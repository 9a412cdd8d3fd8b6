"""Samplers where the right answer is known: Gaussian priors."""

import math

import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.noise import check_levels, few_step_levels, karras
from cmmulti.operators.base import Identity
from cmmulti.operators.mask import Mask
from cmmulti.parameterization import Consistency, TrigFlow
from cmmulti.problems.base import Problem, Solver, StepResult
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.dpm_solver import DPMSolver
from cmmulti.samplers.jumps import Jumps
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.named import sampler_for, sampler_named
from cmmulti.samplers.ode import Euler, Heun, StochasticHeun
from cmmulti.testing.gaussian import Gaussian, gaussian_model

SHAPE = (2, 3)
PRIOR = Gaussian.random(SHAPE, seed=1)


def start(n=5, sigma=80.0):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def error_of(sampler, n):
    model = gaussian_model(PRIOR)
    z = start()
    got = sampler.sample(model, z, karras(n), SampleRandomness(range(5))).x
    # The last step goes from sigma_min to 0 by the denoiser, exact to sigma_min^2.
    return float((got - PRIOR.trajectory(80 * z, 80.0)).norm())


@pytest.mark.parametrize(
    ("sampler", "order", "n"), [(Euler(), 1, 120), (Heun(), 2, 60), (DPMSolver(), 2, 120)], ids=["euler", "heun", "dpm"]
)
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


@pytest.mark.parametrize(
    ("sampler", "nfe"),
    [(Multistep(), 6), (Jumps(0.5), 6), (Euler(), 6), (Heun(), 11), (StochasticHeun(), 11), (DPMSolver(), 6)],
    ids=["multistep", "jumps", "euler", "heun", "stochastic-heun", "dpm"],
)
def test_evaluations_are_counted(sampler, nfe):
    model = gaussian_model(PRIOR)
    assert sampler.sample(model, (2, *SHAPE), karras(6), SampleRandomness(range(2))).nfe == nfe


@pytest.mark.parametrize("levels", [[], [1.0, 1.0], [0.5, 1.0], [100.0], [1.0, 0.0], [math.nan]])
def test_bad_levels_are_named(levels):
    with pytest.raises(UserError, match=r"levels: expected.*, got"):
        check_levels(levels, 80.0)


def test_the_models_highest_level_in_single_precision_is_not_above_it():
    rounded = torch.tensor([0.3, 0.1])
    assert float(rounded[0]) > 0.3
    assert check_levels(rounded, 0.3) == rounded.tolist()


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


def test_after_a_tensor_that_a_problem_names_two_estimates_make_no_slope():
    """DPM-Solver goes on from it as from a start: the estimate before is of another trajectory."""
    model, levels, named = gaussian_model(PRIOR), [5.0, 3.0, 2.0, 1.0, 0.5], start()

    class Naming(Solver):
        def step(self, problem, step, state):
            return StepResult(step.x0, 2.0 * named if step.sigma_next == 2.0 else None, None, state)

    problem = Problem(Identity(SHAPE), torch.zeros(1, *SHAPE), 0.0, Naming())
    got = DPMSolver().sample(model, 0.5 * named, levels, SampleRandomness(range(5)), problem=problem).x
    want = DPMSolver().sample(model, named, levels[2:], SampleRandomness(range(5))).x
    torch.testing.assert_close(got, want)


def test_jumps_without_noise_stay_on_the_trajectory():
    """However many: where multistep sampling of the same start and levels ends somewhere else."""
    model, z, levels = gaussian_model(PRIOR, "two-time"), start(), [80.0, 9.0, 2.0, 0.5]
    got = Jumps().sample(model, z, levels, SampleRandomness(range(5)))
    torch.testing.assert_close(got.x, PRIOR.trajectory(80 * z, 80.0), rtol=1e-6, atol=1e-6)
    assert got.nfe == 4
    noised = Multistep().sample(model, z, levels, SampleRandomness(range(5))).x
    assert float((got.x - noised).abs().max()) > 0.1


def test_jumps_with_fresh_noise_alone_are_multistep_sampling():
    model, z, levels = gaussian_model(PRIOR, "two-time"), start(), [80.0, 2.0, 0.5]
    got, want = (s.sample(model, z, levels, SampleRandomness(range(5))).x for s in (Jumps(1.0), Multistep()))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_gamma_sampling_is_algorithm_3():
    """Written out for gamma = 0.6: to q = eps + 0.8 (t' - eps), then noise up to t'; the last jump is to eps."""
    model, levels, z, eps = gaussian_model(PRIOR, "two-time", Consistency()), [80.0, 2.0, 0.5], start(), 0.002
    got = Jumps(0.6).sample(model, z, levels, SampleRandomness(range(5)))
    draws, x = SampleRandomness(range(5)), 80.0 * z
    for t, after in ((80.0, 2.0), (2.0, 0.5)):
        q = eps + 0.8 * (after - eps)
        x = PRIOR.trajectory(x, t, q) + math.sqrt(after**2 - q**2) * draws.normal((5, *SHAPE))
    torch.testing.assert_close(got.x, PRIOR.trajectory(x, 0.5, eps), rtol=1e-6, atol=1e-6)


def test_jumps_keep_what_a_problem_knows():
    """Exact measurements hold in the result; where the level told lies below the one to land on, no jump leads upwards."""
    seen = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    y = torch.linspace(-0.4, 0.4, 6).double().view(1, *SHAPE) * seen

    class Telling(Replacement):
        def step(self, problem, step, state):
            return super().step(problem, step, state)._replace(sigma_told=0.1)

    for solver in (Replacement(), Telling()):
        problem = Problem(Mask(seen, SHAPE), y, 0.0, solver)
        model, times = gaussian_model(PRIOR, "two-time"), []
        model.network.register_forward_pre_hook(lambda module, told, times=times: times.append((told[1], told[3])))
        got = Jumps().sample(model, start(), [80.0, 2.0, 0.5], SampleRandomness(range(5)), problem=problem)
        torch.testing.assert_close(got.x * seen, y.expand(5, *SHAPE), rtol=0, atol=1e-9)
        assert len(times) == 3
        assert all(bool((later <= time).all()) for time, later in times)
        assert bool(torch.isfinite(got.x).all())


def test_a_problem_that_wants_the_mean_gets_it_from_jumps_too():
    class Asking(Solver):
        wants_mean = True

    problem = Problem(Identity(SHAPE), torch.zeros(1, *SHAPE), 0.0, Asking())
    z, levels = start(), [5.0, 1.0]
    got = Jumps().sample(gaussian_model(PRIOR, "two-time"), z, levels, SampleRandomness(range(5)), problem=problem).x
    want = Euler().sample(gaussian_model(PRIOR), z, levels, SampleRandomness(range(5))).x
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("role", "name", "expected"),
    [
        ("consistency", "jumps", "jumps: for two-time models; expected multistep for this consistency model"),
        ("teacher", "jumps:gamma=0.5", "expected multistep or euler or heun or stochastic-heun or dpm-solver"),
        ("two-time", "heun", "heun: for denoising teachers; expected multistep or jumps for this two-time model"),
    ],
)
def test_a_sampler_that_a_model_cannot_follow_is_refused(role, name, expected):
    with pytest.raises(UserError, match=expected):
        sampler_for(role, name)
    assert sampler_for("two-time", "jumps:gamma=0.5") == Jumps(0.5)


def test_churn_leaves_the_marginals():
    """Noise raises the level by g and the step goes down from there: on a prior that is known, the spread stays its own."""
    n, prior = 4000, Gaussian.random((1, 4), seed=5)
    sampler = StochasticHeun(churn=1e9, lowest=0.0, highest=80.0, noise=1.0)
    x = sampler.sample(gaussian_model(prior), (n, 1, 4), karras(40), SampleRandomness(range(n))).x.flatten(1).double()
    assert (x.mean(0) - prior.mean.flatten()).abs().max() < 4.5 * 0.5 / math.sqrt(n) + 0.005
    assert (torch.cov(x.T) - prior.covariance).abs().max() < 4.5 * 0.25 * math.sqrt(2 / n) + 0.005


def test_without_churn_it_is_heuns_method():
    model, z = gaussian_model(PRIOR), start()
    want = Heun().sample(model, z, karras(9), SampleRandomness(range(5)))
    for still in (StochasticHeun(churn=0.0), StochasticHeun(highest=0.04)):
        got = still.sample(model, z, karras(9), SampleRandomness(range(5)))
        assert torch.equal(got.x, want.x)
        assert got.nfe == want.nfe


def test_churn_never_asks_above_the_first_level():
    told = []
    sampler = StochasticHeun(churn=1e9, highest=1e9)
    model = gaussian_model(PRIOR, sigma_max=3.0)
    sampler.sample(model, start(), [3.0, 2.9, 1.0], SampleRandomness(range(5)), callback=lambda s: told.append(s.sigma))
    assert told == pytest.approx([3.0, 2.9, 3.0, 1.0, math.sqrt(2)])


def test_churn_is_shared_among_the_levels():
    """0.6 over four raises those from 1 to 2 by 0.15, both ends too; each step but the last ends at its next level."""
    told = []
    sampler, model = StochasticHeun(churn=0.6, lowest=1.0, highest=2.0), gaussian_model(PRIOR)
    levels = [3.0, 2.0, 1.0, 0.5]
    sampler.sample(model, start(), levels, SampleRandomness(range(5)), callback=lambda s: told.append(s.sigma))
    assert told == pytest.approx([3.0, 2.0, 2.3, 1.0, 1.15, 0.5, 0.5])


@pytest.mark.parametrize(
    ("text", "sampler"),
    [
        ("heun", Heun()),
        ("dpm-solver++", DPMSolver()),
        ("jumps", Jumps(0.0)),
        ("jumps:gamma=0.3", Jumps(gamma=0.3)),
        ("stochastic-heun", StochasticHeun(40.0, 0.05, 50.0, 1.003)),
        ("stochastic-heun:churn=30,highest=1", StochasticHeun(churn=30.0, highest=1.0)),
    ],
)
def test_samplers_have_names(text, sampler):
    assert sampler_named(text) == sampler


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("huen", r"heun"),
        ("heun:churn=1", r"sampler heun: setting 'churn', expected none"),
        ("stochastic-heun:chrun=1", r"setting 'chrun', expected one of churn, lowest, highest, noise"),
        ("stochastic-heun:churn=much", r"churn: expected a number, got 'much'"),
        ("stochastic-heun:churn=-1", r"churn: expected a finite number from 0, got -1"),
        ("stochastic-heun:noise=inf", r"noise: expected a finite number from 0, got inf"),
        ("jumps:gamma=1.1", r"sampler jumps: gamma: expected a number from 0 to 1, got 1\.1"),
        ("jumps:gamma=nan", r"gamma: expected a number from 0 to 1, got nan"),
    ],
)
def test_wrong_names_are_told(text, told):
    with pytest.raises(UserError, match=told):
        sampler_named(text)
