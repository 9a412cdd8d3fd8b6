"""The model: levels, capabilities, jumps, counting."""

import pytest
import torch

from cmmulti.conditioning import Condition
from cmmulti.errors import UserError
from cmmulti.model import Model, evaluating
from cmmulti.parameterization import EDM, Consistency
from cmmulti.testing.gaussian import Gaussian, gaussian_model

PRIOR = Gaussian.random((1, 5), seed=6)


@pytest.fixture
def x():
    return 3 * torch.randn(4, 1, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("role", ["teacher", "consistency", "two-time"])
def test_a_jump_of_no_length_is_the_identity(role, x):
    model = gaussian_model(PRIOR, role)
    for sigma in (0.0, 0.002, 1.0, 80.0):
        assert torch.equal(model.jump(x, sigma, sigma), x)


@pytest.mark.parametrize("role", ["teacher", "two-time"])
def test_some_samples_of_a_batch_may_stay(role, x):
    """Also at level 0, where the ratio of levels would be 0 / 0."""
    model = gaussian_model(PRIOR, role)
    here, there = torch.tensor([2.0, 2.0, 1.0, 0.0]), torch.tensor([1.0, 2.0, 0.5, 0.0])
    got = model.jump(x, here, there)
    assert torch.equal(got[[1, 3]], x[[1, 3]])
    assert bool(got.isfinite().all())
    assert not torch.equal(got[0], x[0])


def test_a_two_time_model_jumps_along_the_trajectory(x):
    model = gaussian_model(PRIOR, "two-time")
    torch.testing.assert_close(model.jump(x, 3.0, 0.7), PRIOR.trajectory(x, 3.0, 0.7), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.denoise(x, 3.0), PRIOR.denoised(x, 3.0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.endpoint(x, 3.0), PRIOR.trajectory(x, 3.0), rtol=0, atol=1e-6)


def test_a_teacher_jumps_by_an_euler_step(x):
    model = gaussian_model(PRIOR)
    want = x + (0.7 - 3.0) * (x - PRIOR.denoised(x, 3.0)) / 3.0
    torch.testing.assert_close(model.jump(x, 3.0, 0.7), want, rtol=1e-9, atol=1e-9)


def test_a_consistency_model_says_what_it_cannot(x):
    model = gaussian_model(PRIOR, "consistency", Consistency())
    with pytest.raises(UserError, match="not the posterior mean"):
        model.denoise(x, 1.0)
    with pytest.raises(UserError, match=r"jumps to sigma = 0\.002 only, not to 0\.5"):
        model.jump(x, 1.0, 0.5)
    single = x.float()
    assert torch.equal(model.jump(single, 1.0, 0.002), model.endpoint(single, 1.0))


def test_unknown_roles_are_refused():
    with pytest.raises(UserError, match="did you mean 'teacher'"):
        Model(torch.nn.Identity(), EDM(), "techer")


def test_a_level_per_sample_or_one_for_all(x):
    model = gaussian_model(PRIOR)
    torch.testing.assert_close(model.denoise(x, 2.0), model.denoise(x, torch.full((4,), 2.0)))
    each = model.denoise(x, torch.tensor([0.1, 1.0, 10.0, 80.0]))
    for i, sigma in enumerate((0.1, 1.0, 10.0, 80.0)):
        torch.testing.assert_close(each[i : i + 1], model.denoise(x[i : i + 1], sigma), rtol=1e-5, atol=1e-6)


def test_guidance_extrapolates_from_the_dropped_label(x):
    class ByLabel(torch.nn.Module):
        def forward(self, x, time, condition, time_next=None):
            return condition.label.view(-1, 1, 1).to(x) + 0 * x

    model, weight = Model(ByLabel(), EDM()), torch.tensor([0.0, 1.0, 2.0, 3.0])
    label = torch.tensor([4, 4, 4, 4])
    got = model.denoise(x, 1.0, Condition(label=label, guidance=weight))
    plain = model.denoise(x, 1.0, Condition(label=label))
    null = model.denoise(x, 1.0, Condition(label=torch.full((4,), -1)))
    torch.testing.assert_close(got, null + weight.view(-1, 1, 1) * (plain - null))
    assert model.nfe == 4


def test_evaluating_restores_the_mode():
    model = gaussian_model(PRIOR).train()
    with evaluating(model):
        assert not model.training
    assert model.training
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert model.training
