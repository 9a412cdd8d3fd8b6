"""Classifier-free guidance on Gaussians, where it is closed form.

Classes of one variance: ``D_null + w (D_label - D_null)`` is the denoiser of the Gaussian whose mean is
``m_null + w (m_label - m_null)``.
"""

import pytest
import torch
from pydantic import ValidationError

from cmmulti.conditioning import NULL_LABEL, Condition
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.cd import CD, CDSettings
from cmmulti.methods.ctm import CTM, CTMSettings
from cmmulti.methods.progressive import Progressive, ProgressiveSettings
from cmmulti.methods.scm import SCD, SCDSettings
from cmmulti.model import Model
from cmmulti.nn.unet import UNet
from cmmulti.noise import karras
from cmmulti.parameterization import EDM
from cmmulti.randomness import SampleRandomness, TrainingRandomness
from cmmulti.samplers.dpm_solver import DPMSolver
from cmmulti.samplers.ode import Euler, Heun, StochasticHeun
from cmmulti.testing.gaussian import Gaussian, GaussianNetwork, gaussian_model

SHAPE, VARIANCE, LABEL, NULL, WEIGHT = (1, 2, 2), 0.2, 0.5, -0.1, 2.5
GUIDED = Gaussian.isotropic(SHAPE, VARIANCE, NULL + WEIGHT * (LABEL - NULL))


class Classes(torch.nn.Module):
    """The exact network of one class and of none; it must never hear a weight."""

    def __init__(self):
        super().__init__()
        self.label, self.null = (
            GaussianNetwork(Gaussian.isotropic(SHAPE, VARIANCE, mean), EDM(), "teacher") for mean in (LABEL, NULL)
        )

    def forward(self, x, time, condition, time_next=None):
        assert condition.guidance is None
        free = (condition.label == NULL_LABEL).view(-1, 1, 1, 1)
        return torch.where(free, self.null(x, time), self.label(x, time))


def teacher():
    return Model(Classes(), EDM())


class Contexts(Classes):
    """The same, of one context and of none."""

    def forward(self, x, time, condition, time_next=None):
        label = torch.where((condition.context == 0).flatten(1).all(1), NULL_LABEL, 0)
        return super().forward(x, time, Condition(label=label, guidance=condition.guidance), time_next)


def asked(n, weight=WEIGHT):
    return Condition(label=torch.zeros(n, dtype=torch.int64), guidance=torch.full((n,), weight))


@pytest.mark.parametrize("sampler", [Euler(), Heun(), StochasticHeun(), DPMSolver()], ids=lambda s: type(s).__name__)
def test_a_guided_teacher_samples_the_shifted_prior(sampler):
    """Step by step what the shifted prior's own teacher does, at twice the evaluations."""
    noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got, want = (
        sampler.sample(model, noise, karras(9), SampleRandomness(range(3)), condition)
        for model, condition in ((teacher(), asked(3)), (gaussian_model(GUIDED), Condition(label=torch.full((3,), 0))))
    )
    torch.testing.assert_close(got.x, want.x, rtol=1e-6, atol=1e-6)
    assert got.nfe == 2 * want.nfe


def test_a_context_is_guided_as_a_label_is():
    context, weight = torch.ones(3, 2, 4), torch.full((3,), WEIGHT)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = Model(Contexts(), EDM()).denoise(x, 2.0, Condition(context=context, guidance=weight))
    torch.testing.assert_close(got, gaussian_model(GUIDED).denoise(x, 2.0), rtol=1e-6, atol=1e-6)


def loss(method, taught, model, condition):
    method.setup(model, taught, Budget(100, 8))
    x0 = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(3))
    return method.loss(model, x0, condition, Progress(50, 400, 0.5), TrainingRandomness(0, 50)).per_sample


def student(method):
    torch.manual_seed(0)
    network = UNet(2, 1, (8, 8), classes=2, two_times=method.role == "two-time")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return Model(network, method.parameterization(0.5), method.role)


METHODS = {
    "cd": lambda w: CD(CDSettings(guidance=w)),
    "cd-euler": lambda w: CD(CDSettings(guidance=w, solver="euler", target_decay=0.9)),
    "scd": lambda w: SCD(SCDSettings(guidance=w)),
    "ctm": lambda w: CTM(CTMSettings(guidance=w, denoising=0)),
    "progressive": lambda w: Progressive(ProgressiveSettings(guidance=w, first=1)),
}


@pytest.mark.parametrize("name", METHODS)
def test_one_weight_is_distilled_without_being_told(name):
    """The loss is that of the shifted prior's teacher; a student that does not know weights takes it over."""
    condition = Condition(label=torch.full((8,), 0))
    guided, plain = METHODS[name](WEIGHT), METHODS[name](None)
    got = loss(guided, teacher(), student(guided), condition)
    want = loss(plain, gaussian_model(GUIDED), student(plain), condition)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    without = loss(plain, teacher(), student(plain), condition)
    assert float((got - without).abs().max()) > 1e-3
    assert guided.guided
    assert not guided.tells_guidance
    assert not plain.guided


@pytest.mark.parametrize("name", METHODS)
def test_samples_whose_label_was_dropped_are_not_guided(name):
    free = Condition(label=torch.full((8,), NULL_LABEL))
    guided, plain = METHODS[name](WEIGHT), METHODS[name](None)
    got, want = (loss(m, teacher(), student(m), free) for m in (guided, plain))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


def test_ctm_denoises_towards_the_guided_estimate():
    """With ``m_guided = m_label + (w - 1) (m_label - m_null)`` the exact guided network errs by as much as the exact one of
    the label does without guidance, sample by sample."""
    x0 = LABEL + VARIANCE**0.5 * torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(3))

    def error(weight, prior):
        method = CTM(CTMSettings(guidance=weight))
        model = gaussian_model(prior, "two-time", method.parameterization(0.5))
        method.setup(model, teacher(), Budget(100, 8))
        return float(method.denoising(model, x0, Condition(label=torch.full((8,), 0)), TrainingRandomness(0, 50)))

    plain = Gaussian.isotropic(SHAPE, VARIANCE, LABEL)
    assert error(WEIGHT, GUIDED) == pytest.approx(error(None, plain), rel=1e-4)
    assert error(WEIGHT, plain) > 1.1 * error(None, plain)


def test_ctm_tells_its_student_the_weight_that_the_teacher_follows():
    heard, followed = [], []

    class Student(UNet):
        def forward(self, x, time, condition, time_next=None):
            heard.append(condition.guidance)
            return super().forward(x, time, condition, time_next)

    class Teacher(Model):
        def denoise(self, x, sigma, condition):
            followed.append(condition.guidance)
            return super().denoise(x, sigma, condition)

    method = CTM(CTMSettings(guidance=(1, 3), levels=3))
    network = Student(2, 1, (8, 8), classes=2, two_times=True, guided=True)
    loss(
        method,
        Teacher(Classes(), EDM()),
        Model(network, method.parameterization(0.5), "two-time"),
        Condition(label=torch.full((8,), 0)),
    )
    assert len(heard) == 5
    assert len(followed) == 4
    for weight in [*heard, *followed[:2]]:
        assert torch.equal(weight, heard[0])
        assert 1 <= float(weight.min()) < float(weight.max()) <= 3
    assert followed[2:] == [None, None]


def test_progressive_guides_the_first_stage_alone():
    method = Progressive(ProgressiveSettings(guidance=WEIGHT, first=2))
    model, taught = student(method), teacher()
    method.setup(model, taught, Budget(100, 8))
    x0 = torch.zeros(8, *SHAPE)
    for step, fraction in ((0, 0.0), (90, 0.9)):
        method.loss(
            model, x0, Condition(label=torch.full((8,), 0)), Progress(step, 8 * step, fraction), TrainingRandomness(0, step)
        )
    assert (taught.nfe, method.previous.nfe, model.nfe) == (4, 2, 2)


@pytest.mark.parametrize("settings", [CDSettings, SCDSettings])
def test_a_range_is_told_and_no_weight_is_negative(settings):
    assert settings(guidance=[1, 3]).guidance == (1.0, 3.0)
    for wrong in (-1.0, float("nan"), [3, 1]):
        with pytest.raises(ValidationError):
            settings(guidance=wrong)
    kind = CD if settings is CDSettings else SCD
    assert kind(settings(guidance=(1, 3))).tells_guidance
