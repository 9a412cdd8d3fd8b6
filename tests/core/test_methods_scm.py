"""sCT and sCD against values worked out from the paper, analytic networks and differences."""

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.derivative import along
from cmmulti.methods.scm import SCD, SCT, SCDSettings, SCTSettings
from cmmulti.methods.weighting import LearnedWeight
from cmmulti.model import Model
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import EDM, TrigFlow
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.gaussian import Gaussian, gaussian_model
from cmmulti.testing.methods import check_method
from cmmulti.training.module import order_weights

PRIOR = Gaussian.random((1, 4), seed=2)
BUDGET = Budget(100, 8)
FORMS = {"trigflow": TrigFlow(0.5), "edm": EDM(0.5)}
VARIANTS = {"scd-guided": SCD(SCDSettings(guidance=(1, 2), derivative="difference", form="edm", normalization=0))}


@pytest.mark.parametrize(**check_method.cases(VARIANTS))
def test_contract(check, piece):
    check(piece)


class Linear(torch.nn.Module):
    """F = 0.6 x_in - 0.4 t, whose derivative along (v, 1) with x_in = x / 0.5 is 1.2 v - 0.4."""

    def forward(self, x, time, condition=None, time_next=None):
        return 0.6 * x - 0.4 * time.view(-1, 1, 1)


def unet(dropout=0.0, dims=2, channels=1, patch=1):
    network = UNet(dims, channels, (8, 8), dropout=dropout, attention=(1,), patch=patch)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return network.double()


def column(v):
    return torch.full((1,), v, dtype=torch.float64)


def point(shape=(3, 1, 4), seed=0):
    """TrigFlow points, times from near 0 to near pi/2, and a direction."""
    generator = torch.Generator().manual_seed(seed)
    x, v = (torch.randn(shape, generator=generator, dtype=torch.float64) / 2 for _ in range(2))
    return x, torch.linspace(0.01, 1.56, shape[0], dtype=torch.float64), v


def tangent(method, network, x, t, velocity, ramp=1.0):
    return method.tangent(network(x, t), method.slope(network, x, t, velocity), x, t, velocity, ramp, 0.5)


@pytest.mark.parametrize("kind", ["forward-mode", "difference"])
@pytest.mark.parametrize(("ramp", "want"), [(1.0, -0.581333929026), (0.25, -0.426125596552), (0.0, -0.374389485728)])
def test_the_tangent_by_hand(kind, ramp, want):
    """x = 0.8, t = 0.7, dx/dt = -0.3, sd = 0.5: -cos^2 (sd F - v) - r cos sin (x + sd dF/dt)."""
    model, method = Model(Linear(), TrigFlow(0.5), "consistency"), SCT(SCTSettings(derivative=kind))
    x, v = torch.full((1, 1, 1), 0.8, dtype=torch.float64), torch.full((1, 1, 1), -0.3, dtype=torch.float64)

    def network(x, t):
        return method.output(model, x, t, NO_CONDITION)

    got = tangent(method, network, x, column(0.7), v, ramp)
    assert float(got) == pytest.approx(want, rel=1e-9)


def test_limits_by_hand():
    """|(3, -4)| = 5: (3, -4) / 5.1; clipped: (1, -1)."""
    g = torch.tensor([[[3.0, -4.0]]], dtype=torch.float64)
    assert SCT().limited(g).flatten().tolist() == pytest.approx([3 / 5.1, -4 / 5.1], rel=1e-12)
    assert SCT(SCTSettings(normalization=0)).limited(g).flatten().tolist() == [1, -1]


@pytest.mark.parametrize("form", FORMS)
def test_the_tangent_is_zero_at_the_exact_function_along_the_teacher(form):
    """There df/dt = 0 on every trajectory, and g = cos t df/dt once warmed up."""
    method = SCD(SCDSettings(form=form))
    model = gaussian_model(PRIOR, "consistency", FORMS[form])
    method.setup(model, gaussian_model(PRIOR), BUDGET)
    x, t, _ = point()

    def network(x, t):
        return method.output(model, x, t, NO_CONDITION)

    velocity = method.velocity(x, t, torch.zeros_like(x), NO_CONDITION, 0.5)
    assert tangent(method, network, x, t, velocity).abs().max() < 1e-11
    assert tangent(method, network, x, t, velocity + 0.1).abs().max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", ["gaussian", "unet"])
def test_the_tangent_agrees_with_differences_of_the_consistency_function(form, network):
    """g = cos t df/dt with f from the model's own endpoint, along any direction."""
    if network == "gaussian":
        model, shape = gaussian_model(PRIOR, "consistency", FORMS[form], learnable=True).double(), (3, 1, 4)
        torch.nn.init.constant_(model.network.gain, 0.3)
    else:
        model, shape = Model(unet(), FORMS[form], "consistency").eval(), (3, 1, 5, 6)
    method = SCT(SCTSettings(form=form))
    x, t, v = point(shape)
    wide = (-1, *[1] * (len(shape) - 1))

    def network_output(x, t):
        return method.output(model, x, t, NO_CONDITION)

    def f(h):
        at = t + h
        return model.endpoint((x + h * v) / at.cos().view(wide), 0.5 * at.tan(), NO_CONDITION)

    with torch.no_grad():
        got = tangent(method, network_output, x, t, v)
        h = 2e-5
        want = t.cos().view(wide) * (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
    for mine, theirs in zip(got, want, strict=True):
        assert float((mine - theirs).norm() / theirs.norm()) < 1e-5


def test_the_difference_estimate_is_near_the_exact_derivative():
    model, method = Model(unet().float(), TrigFlow(0.5), "consistency"), SCT()
    x, t, v = (a.float() for a in point((3, 1, 5, 6)))

    def network(x, t):
        return method.output(model, x, t, NO_CONDITION)

    inputs, factor = ((x, t), (v, torch.ones_like(t))), t.cos() * t.sin()
    step = torch.full_like(t, 1e-3)
    exact, near = (along(network, *inputs, factor, step, kind) for kind in ("forward-mode", "difference"))
    for mine, theirs in zip(near, exact, strict=True):
        assert float((mine - theirs).norm() / theirs.norm()) < 5e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("longest", [1e-3, 0.1])
def test_a_difference_keeps_inside_the_process(form, longest):
    """Near both ends, of data whose first angles are shorter than a step: an angle beyond them is no noise level."""
    sigma = torch.tensor([0.002, 0.05, 79.0, 5000.0], dtype=torch.float64)
    forms = {"trigflow": TrigFlow(3.0), "edm": EDM(3.0)}
    model = gaussian_model(PRIOR, "consistency", forms[form], learnable=True).double()
    torch.nn.init.constant_(model.network.gain, 0.3)
    x, _, v = point((4, 1, 4))
    t = torch.atan(sigma / 3.0)
    exact, near = (
        method.slope(lambda x, t, m=method: m.output(model, x, t, NO_CONDITION), x, t, v)
        for method in (
            SCT(SCTSettings(form=form, derivative=d, difference_step=longest)) for d in ("forward-mode", "difference")
        )
    )
    for mine, theirs in zip(near, exact, strict=True):
        assert float((mine - theirs).norm() / theirs.norm()) < 0.1


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif("not torch.cuda.is_available()"))])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("dims", "channels", "patch"), [(1, 2, 1), (2, 1, 1), (2, 3, 1), (2, 1, 2), (3, 2, 1)])
def test_the_pass_in_forward_mode_drops_the_same_units(device, dims, channels, patch, ordered):
    """Whatever the order in memory: PyTorch draws other masks of channels-last activations in forward mode."""
    model, randomness = Model(unet(0.5, dims, channels, patch), TrigFlow(0.5), "consistency"), TrainingRandomness(0, 0)
    model.to(device).train()
    if ordered:
        order_weights(model)
    x, t, v = (a.to(device) for a in point((3, channels, *(4, 5, 6)[:dims])))

    def network(x, t):
        with randomness.dropout(device):
            return SCT().output(model, x, t, NO_CONDITION)

    with torch.no_grad():
        value, derivative = torch.func.jvp(network, (x, t), (v, torch.ones_like(t)))
        torch.testing.assert_close(value, network(x, t), rtol=1e-10, atol=1e-12)
        assert not torch.allclose(value, model.eval().raw(x, t))
        model.train()
        h = 1e-5
        want = (network(x + h * v, t + h) - network(x - h * v, t - h)) / (2 * h)
        torch.testing.assert_close(derivative, want, rtol=1e-5, atol=1e-6)


def test_the_loss_by_hand(chosen, silent):
    """F = 0 and its derivative 0: g = cos^2 t v - r cos t sin t x, error |g / (|g| + 0.1)|^2 / d, u = 0."""
    method = SCT(SCTSettings(p_mean=-0.864780009326, p_std=1e-9, warmup=10_000))
    model = Model(silent, TrigFlow(0.5), "consistency")
    method.setup(model, None, BUDGET)
    x0, noise = torch.tensor([[[0.3, -0.4]]]), torch.tensor([[[-0.7, 1.1]]])
    for step, want in ((2500, 0.341243304092), (10_000, 0.337738675489), (90_000, 0.337738675489)):
        loss = method.loss(model, x0, NO_CONDITION, Progress(step, step, 0.5), chosen([0.5], noise))
        assert float(loss.sigma) == pytest.approx(0.4211442, rel=1e-5)
        assert float(loss.value.detach()) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize(("steps", "want"), [(400_000, 10_000), (40_000, 10_000), (3000, 750), (2, 1)])
def test_the_warm_up_is_over_within_a_quarter_of_the_run(steps, want, chosen, silent):
    """Half-warm tangents end in answers that are too small: by a third where r is 0.3."""
    method, model = SCT(), Model(silent, TrigFlow(0.5), "consistency")
    method.setup(model, None, Budget(steps, 8))
    x0 = torch.tensor([[[0.3, -0.4]]])
    warm = [
        method.loss(model, x0, NO_CONDITION, Progress(step, 0, 0.5), chosen([0.5], x0)).extras["warmup"]
        for step in (0, want // 2, want, steps)
    ]
    assert warm == [0, (want // 2) / want, 1, 1]


def test_the_gradient_of_the_loss_is_that_of_the_target(chosen, silent):
    """d/dF of |F - sg F - g|^2 / d is -2 g / d: here through F = shift on two elements."""
    method = SCT(SCTSettings(p_mean=-0.864780009326, p_std=1e-9, warmup=10_000))
    model = Model(silent, TrigFlow(0.5), "consistency")
    method.setup(model, None, BUDGET)
    x0, noise = torch.tensor([[[0.3, -0.4]]]), torch.tensor([[[-0.7, 1.1]]])
    method.loss(model, x0, NO_CONDITION, Progress(10_000, 0, 0.5), chosen([0.5], noise)).value.backward()
    assert float(silent.shift.grad) == pytest.approx(-0.180567742459, rel=1e-4)
    assert float(method.weight.linear.weight.grad.abs().sum()) > 0


def test_the_learned_weight():
    """0 at the start; at e^u = 1 / E the slope in u is 0, and the loss 1 + ln E."""
    weight = LearnedWeight()
    sigma, error = torch.tensor([0.01, 1.0, 80.0]), torch.tensor([0.5, 0.5, 0.5])
    assert weight(sigma).tolist() == [0, 0, 0]
    assert weight.balanced(error, sigma).tolist() == [0.5, 0.5, 0.5]
    optimizer = torch.optim.Adam(weight.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        weight.balanced(error, sigma).sum().backward()
        optimizer.step()
    assert weight.balanced(error, sigma).tolist() == pytest.approx([1 - 0.6931472] * 3, abs=1e-3)


def test_guidance_reaches_teacher_and_student():
    heard = []

    class Ear(torch.nn.Module):
        def forward(self, x, time, condition=None, time_next=None):
            heard.append(condition)
            return 0 * x

    method = SCD(SCDSettings(guidance=(1, 2)))
    model, teacher = Model(Ear(), TrigFlow(0.5), "consistency"), Model(Ear(), EDM(0.5))
    method.setup(model, teacher, BUDGET)
    condition = Condition(label=torch.zeros(64, dtype=torch.int64))
    method.loss(model, torch.ones(64, 1, 2), condition, Progress(0, 0, 0), TrainingRandomness(0, 0))
    # The teacher with and without the label, then the student twice.
    assert [c.guidance is None for c in heard] == [True, True, False, False]
    assert heard[1].label.unique().tolist() == [-1]
    weights = heard[2].guidance
    assert 1 <= float(weights.min()) < 1.1
    assert 1.9 < float(weights.max()) <= 2


@pytest.mark.parametrize(("kind", "form"), [(SCT, "edm"), (SCD, "trigflow")])
def test_training_finds_the_exact_function(kind, form):
    method = kind(kind.Settings(warmup=1, form=form))
    model = gaussian_model(PRIOR, "consistency", FORMS[form], learnable=True)
    torch.nn.init.constant_(model.network.gain, 0.3)
    torch.nn.init.constant_(model.network.shift, 0.3)
    method.setup(model, gaussian_model(PRIOR), BUDGET)
    optimizer = torch.optim.Adam(method.trainable(model), lr=0.04)
    for step in range(40):
        x0 = PRIOR.sample(512, torch.Generator().manual_seed(step)).float()
        optimizer.zero_grad()
        method.loss(model, x0, NO_CONDITION, Progress(step + 1, 0, 0.5), TrainingRandomness(0, step)).value.backward()
        optimizer.step()
    assert model.network.gain.detach().abs() < 0.1
    assert model.network.shift.detach().abs() < 0.1


@pytest.mark.parametrize("guidance", [(2, 1), (-1, 2)])
def test_a_range_of_guidance_that_is_none(guidance):
    with pytest.raises(ValueError, match="0 <= low <= high"):
        SCDSettings(guidance=guidance)
