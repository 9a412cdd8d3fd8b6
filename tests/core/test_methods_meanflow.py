"""MeanFlow against values worked out from the paper, analytic networks and differences."""

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION, NULL_LABEL, Condition
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.meanflow import MeanFlow, MeanFlowSettings
from cmmulti.model import Model
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import Flow
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.gaussian import Gaussian, gaussian_model

PRIOR = Gaussian.random((1, 4), seed=2)
PROGRESS = Progress(0, 0, 0.0)


def made(**settings):
    return MeanFlow(MeanFlowSettings(**settings))


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_times_by_hand():
    """sigmoid(-0.4 + n) for n = 1, -1, 0: 0.645656, 0.197816, 0.401312; the larger is t; r = t where not apart."""
    everywhere = torch.ones(3, dtype=torch.bool)
    first, second = double(1.0, -1.0, 1.0), double(-1.0, 0.0, 40.0)
    t, r = made().times(first, second, everywhere, 80 / 81)
    assert t.tolist() == pytest.approx([0.645656306226, 0.401312339888, 0.987654320988], rel=1e-11)
    assert r.tolist() == pytest.approx([0.197816111441, 0.197816111441, 0.645656306226], rel=1e-11)
    t, r = made().times(first, second, ~everywhere, 80 / 81)
    assert t.tolist() == r.tolist()


def test_times_of_two_laws_by_hand():
    """CIFAR-10: sigmoid(-0.6 + 1.6 n), r from sigmoid(-4 + 1.6 n) cut at t, and t itself where collapsed."""
    method = made(p_mean=-0.6, p_std=1.6, r_law=(-4.0, 1.6))
    t, r = method.times(double(1, 1, 1), double(-1, 4, -1), torch.tensor([True, True, False]), 80 / 81)
    assert t.tolist() == pytest.approx([0.73105857863] * 3, rel=1e-11)
    assert r.tolist() == pytest.approx([0.00368423989944, 0.73105857863, 0.73105857863], rel=1e-11)


def test_dropped_samples_have_equal_times():
    """A quarter of eight is two: the last two, or the last two whose label was kept."""
    none = torch.zeros(8, dtype=torch.bool)
    zero, method = torch.zeros(1), made()
    assert method.apart(none, zero).nonzero().flatten().tolist() == [6, 7]
    dropped = none.clone()
    dropped[[0, 6, 7]] = True
    assert method.apart(dropped, zero).nonzero().flatten().tolist() == [4, 5]
    dropped[:] = True
    dropped[3] = False
    assert method.apart(dropped, zero).nonzero().flatten().tolist() == [3]
    assert made(apart=0).apart(none, zero + 0.99).sum() == 0
    assert made(apart=1).apart(none, zero).all()
    # A batch of one: apart in a quarter of the draws.
    alone = [bool(method.apart(none[:1], torch.tensor([u]))) for u in (0.0, 0.2, 0.3, 0.9)]
    assert alone == [True, True, False, False]


@pytest.mark.parametrize(
    ("settings", "lost", "apart"),
    [
        ({"omega": 2.0}, 4, [4]),
        ({"omega": 2.0}, 8, [8]),  # of a modality without labels
        ({}, 4, [8]),
        ({}, 8, [8]),
    ],
)
def test_who_learns_to_jump(settings, lost, apart):
    """All of a batch with ``apart`` 1; of a guided one those alone that are guided, if there are any."""
    seen = []

    class Times(torch.nn.Module):
        def forward(self, x, time, condition, time_next):
            seen.append(int((time != time_next).sum()))
            return 0 * x

    label = torch.tensor([NULL_LABEL] * lost + [1] * (8 - lost))
    x0 = torch.zeros(8, 1, 2)
    model = Model(Times(), Flow(), "two-time")
    made(apart=1, **settings).loss(model, x0, Condition(label=label), PROGRESS, TrainingRandomness(0, 0))
    assert seen[-1:] == apart


class Linear(torch.nn.Module):
    """u = 0.6 z - 0.4 t + 0.3 r, whose derivative along (v, 1, 0) is 0.6 v - 0.4."""

    def forward(self, x, time, condition=None, time_next=None):
        return 0.6 * x - 0.4 * time.view(-1, 1, 1) + 0.3 * time_next.view(-1, 1, 1)


def velocity_of(model):
    """The average velocity between two times, as a function of them."""

    def velocity(z, t, r):
        return model.raw(z, t, NO_CONDITION, r)

    return velocity


@pytest.mark.parametrize("kind", ["forward-mode", "difference"])
def test_the_target_by_hand(kind):
    """v = 0.5, t = 0.7, r = 0.2: 0.5 - 0.5 (0.3 - 0.4) = 0.55; at r = t it is v."""
    model = Model(Linear(), Flow(), "two-time")
    z, v = torch.full((2, 1, 1), 0.9, dtype=torch.float64), torch.full((2, 1, 1), 0.5, dtype=torch.float64)
    network = velocity_of(model)
    got = made(derivative=kind).target(network, z, double(0.7, 0.7), double(0.2, 0.7), v)
    assert got.flatten().tolist() == pytest.approx([0.55, 0.5], rel=1e-9)


def inputs(shape):
    generator = torch.Generator().manual_seed(0)
    z, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return z, v, double(0.98, 0.5, 0.1), double(0.0, 0.3, 0.02)


def test_the_exact_average_velocity_is_its_own_target():
    """Along the marginal velocity the identity u = v - (t - r) du/dt holds for u = (z - z_r) / (t - r)."""
    model = gaussian_model(PRIOR, "two-time", Flow())
    z, _, t, r = inputs((3, 1, 4))
    network = velocity_of(model)
    sigma, there, wide = t / (1 - t), r / (1 - r), (-1, 1, 1)
    x = z / (1 - t).view(wide)
    # v = (z - D) / t, and z_r = (1 - r) x_r with x_r on the exact trajectory.
    v = (z - PRIOR.denoised(x, sigma)) / t.view(wide)
    u = (z - (1 - r).view(wide) * PRIOR.trajectory(x, sigma, there)) / (t - r).view(wide)
    torch.testing.assert_close(network(z, t, r), u, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(made().target(network, z, t, r, v), u, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("network", ["gaussian", "unet"])
def test_the_target_agrees_with_differences(network):
    if network == "gaussian":
        model, shape = gaussian_model(PRIOR, "two-time", Flow(), learnable=True).double(), (3, 1, 4)
        torch.nn.init.constant_(model.network.gain, 0.3)
    else:
        module = UNet(2, 1, (8, 8), attention=(1,), two_times=True)
        generator = torch.Generator().manual_seed(0)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
        model, shape = Model(module.double(), Flow(), "two-time").eval(), (3, 1, 5, 6)
    z, v, t, r = inputs(shape)
    u = velocity_of(model)

    def f(h):
        return u(z + h * v, t + h, r)

    with torch.no_grad():
        got = v - made().target(u, z, t, r, v)
        h = 2e-5
        slope = (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
        want = (t - r).view(-1, *[1] * (len(shape) - 1)) * slope
    for mine, theirs in zip(got, want, strict=True):
        assert float((mine - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize(("power", "want"), [(1.0, 0.999764761233), (0.75, 1.43555752928), (0.0, 4.25)])
def test_the_loss_by_hand(chosen, silent, power, want):
    """u = 0, so that the target is v = n - x0 = (-2, 0.5): |v|^2 = 4.25, over (4.25 + 0.001)^p."""
    model = Model(silent, Flow(), "two-time")
    x0, noise = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[-1.0, 1.0]]])

    class Drawn(type(chosen([0.0], noise))):
        def normal_like(self, x, purpose="noise"):
            return torch.zeros_like(x) if x.dim() == 1 else super().normal_like(x)

    loss = made(power=power).loss(model, x0, NO_CONDITION, PROGRESS, Drawn([0.0], noise))
    assert float(loss.value.detach()) == pytest.approx(want, rel=1e-6)
    assert float(loss.per_sample) == pytest.approx(2.125, rel=1e-6)
    assert float(loss.sigma) == pytest.approx(0.670320046, rel=1e-6)  # t = sigmoid(-0.4), sigma = e^-0.4
    # The weight has no gradient: 2 (u - v) summed over v = -2, 0.5, times it.
    loss.value.backward()
    assert float(silent.shift.grad) == pytest.approx(3 / (4.25 + 1e-3) ** power, rel=1e-5)


class ByLabel(torch.nn.Module):
    """u = 1 for a label and 10 for none; counts its calls."""

    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)
        self.calls = []

    def forward(self, x, time, condition, time_next):
        self.calls.append((self.training, torch.equal(time, time_next)))
        held = (condition.label != NULL_LABEL).view(-1, 1, 1)
        return self.dropout(torch.where(held, 1.0, 10.0) * torch.ones_like(x))


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({}, [2, 2, 2]),
        ({"omega": 3.0}, [-14, -14, 2]),  # 3 * 2 - 2 * 10
        ({"omega": 1.0, "kappa": 0.5}, [-2.5, -2.5, 2]),  # 2 - 0.5 * 10 + 0.5 * 1
        ({"omega": 3.0, "guidance_to": 0.75}, [-14, 2, 2]),
        ({"omega": 3.0, "guidance_from": 0.75}, [2, -14, 2]),
    ],
)
def test_guidance_by_hand(settings, want):
    """v = 2; t = 0.5, 0.9, 0.5; the last sample's label was dropped, and its velocity is left alone."""
    model = Model(ByLabel(), Flow(), "two-time").train()
    label = torch.tensor([0, 0, NULL_LABEL])
    v = torch.full((3, 1, 1), 2.0)
    got = made(**settings).velocity(model, v, v, torch.tensor([0.5, 0.9, 0.5]), label == NULL_LABEL, Condition(label=label))
    assert got.flatten().tolist() == pytest.approx(want)
    assert all(call == (False, True) for call in model.network.calls)
    assert len(model.network.calls) == {0: 0, 1: 1, 2: 2 if "kappa" in settings else 1}[len(settings)]
    assert model.training


def test_training_finds_the_exact_function():
    method = made(apart=0.75)
    model = gaussian_model(PRIOR, "two-time", Flow(), learnable=True)
    torch.nn.init.constant_(model.network.gain, 0.3)
    torch.nn.init.constant_(model.network.shift, 0.3)
    method.setup(model, None, Budget(100, 8))
    optimizer = torch.optim.Adam(method.trainable(model), lr=0.04)
    for step in range(40):
        x0 = PRIOR.sample(512, torch.Generator().manual_seed(step)).float()
        optimizer.zero_grad()
        method.loss(model, x0, NO_CONDITION, PROGRESS, TrainingRandomness(0, step)).value.backward()
        optimizer.step()
    assert model.network.gain.detach().abs() < 0.1
    assert model.network.shift.detach().abs() < 0.1
