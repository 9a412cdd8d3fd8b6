"""CTM against values worked out from the paper and its code."""

import copy
from collections import Counter

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.ctm import CTM, CTMSettings
from cmmulti.model import Model
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.gaussian import Gaussian, gaussian_model

PRIOR = Gaussian.random((1, 4), seed=2)
SCALAR = Gaussian.isotropic((1, 1), 0.25)
PROGRESS = Progress(0, 0, 0.0)
# (80^(1/7) + i/17 (0.002^(1/7) - 80^(1/7)))^7 at i = 7, 9, 10.
T, U, S = 5.3151945218, 1.92333983704, 1.08817063655


def started(prior=SCALAR, gain=0.0, **settings):
    method = CTM(CTMSettings(**settings))
    model = gaussian_model(prior, "two-time", method.parameterization(0.5), learnable=True)
    torch.nn.init.constant_(model.network.gain, gain)
    method.setup(model, gaussian_model(prior), Budget(100, 8))
    return method, model


def test_the_number_of_solver_steps_is_drawn_in_proportion_to_itself():
    """1 to 17 for a grid of 18: P(m) = m / 153; the same on every process."""
    method = CTM()
    drawn = Counter(method.solver_steps(TrainingRandomness(0, step)) for step in range(6000))
    assert sorted(drawn) == list(range(1, 18))
    assert sum(m * k for m, k in drawn.items()) / 6000 == pytest.approx(35 / 3, abs=0.15)  # sum m^2 / 153
    assert drawn[17] / 6000 == pytest.approx(17 / 153, abs=0.015)
    assert method.solver_steps(TrainingRandomness(0, 5, rank=1)) == method.solver_steps(TrainingRandomness(0, 5))
    assert {CTM(CTMSettings(levels=3)).solver_steps(TrainingRandomness(0, k)) for k in range(50)} == {1, 2}


def test_the_places_on_the_grid():
    """With 5 steps of 18 levels t is one of 13 places, u five below, s from u to the last."""
    draws = torch.linspace(0, 1 - 2**-24, 1301)
    start, middle, end = CTM().indices(5, draws, torch.full_like(draws, 1 - 2**-24))
    assert sorted(set(start.tolist())) == list(range(13))
    assert torch.equal(middle, start + 5)
    assert set(end.tolist()) == {17}
    start, middle, end = CTM().indices(5, torch.zeros(13), torch.arange(13) / 13)
    assert end.tolist() == list(range(5, 18))


def test_the_levels_by_hand():
    assert CTM().level(torch.tensor([7, 9, 10]), 80.0).tolist() == pytest.approx([T, U, S], rel=1e-6)


def test_the_loss_by_hand(chosen, silent, monkeypatch):
    """Silent networks: g = c_skip x everywhere. t, u, s at places 7, 9, 10, two Heun steps between, then the end at 0."""
    method = CTM(CTMSettings(denoising=0, distance="l1"))
    model, teacher = (Model(copy.deepcopy(silent), method.parameterization(0.5), role) for role in ("two-time", "teacher"))
    method.setup(model, teacher, Budget(100, 8))
    monkeypatch.setattr(method, "solver_steps", lambda randomness: 2)
    monkeypatch.setattr(method, "indices", lambda *_: tuple(torch.tensor([i]) for i in (7, 9, 10)))
    x0, noise = torch.tensor([[[0.3]]]), torch.tensor([[[-0.7]]])
    loss = method.loss(model, x0, NO_CONDITION, PROGRESS, chosen([0.0], noise))
    assert float(loss.sigma) == pytest.approx(T, rel=1e-6)
    assert float(loss.value.detach()) == pytest.approx(0.00603260642507, rel=2e-4)


def test_the_projection_is_held_and_passes_the_gradient(chosen, monkeypatch):
    """With l1 on one element the gradient is (slope of the projection) (1 - s/t) c_out(t); none is on the copy."""
    method, model = started(gain=0.3, denoising=0, distance="l1")
    torch.nn.init.constant_(method.target.copy.network.gain, 0.0)
    monkeypatch.setattr(method, "solver_steps", lambda randomness: 2)
    monkeypatch.setattr(method, "indices", lambda *_: tuple(torch.tensor([i]) for i in (7, 9, 10)))
    method.loss(model, torch.ones(1, 1, 1), NO_CONDITION, PROGRESS, chosen([0.0], torch.ones(1, 1, 1))).value.backward()
    # The exact trajectory of N(0, 0.25) from s to 0 multiplies by sqrt(0.25 / (0.25 + s^2)).
    slope = (0.25 / (0.25 + S**2)) ** 0.5
    c_out = T * 0.5 / (T**2 + 0.25) ** 0.5
    assert abs(float(model.network.shift.grad)) == pytest.approx(slope * (1 - S / T) * c_out, rel=1e-4)
    assert all(p.grad is None for p in method.target.copy.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_denoising_levels_by_hand():
    """exp(-1.2 + 1.2 n) for the first half; the grid's curve at 0.7 times the draw for the second."""
    normal = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    uniform = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    for offset in (0.0, 0.99):
        got = CTM().denoising_levels(normal, uniform, torch.tensor([offset]), 80.0).tolist()
        assert got == pytest.approx([0.301194211912, 1.0, 80.0, 0.318283288839], rel=1e-10)
    # Half of one sample: lognormal in half of the steps.
    alone = [CTM().denoising_levels(normal[:1], uniform[:1], torch.tensor([u]), 80.0).item() for u in (0.0, 0.4, 0.6, 0.9)]
    assert alone == pytest.approx([0.301194211912] * 2 + [80.0] * 2, rel=1e-10)


def test_the_denoising_loss_by_hand(chosen, silent):
    """One sample at sigma = e^-1.2 (n = 0): weight (s^2 + 0.25) / (0.5 s)^2 times (c_skip x - x0)^2."""
    method = CTM()
    model = Model(silent, method.parameterization(0.5), "two-time")

    class Drawn(type(chosen([0.0], torch.zeros(1)))):
        def normal_like(self, x, purpose="noise"):
            return torch.zeros_like(x) if x.dim() == 1 else super().normal_like(x)

    x0 = torch.tensor([[[0.3]]])
    got = method.denoising(model, x0, NO_CONDITION, Drawn([0.0], torch.tensor([[[-0.7]]])))
    assert float(got.detach()) == pytest.approx(0.826666248338, rel=1e-5)


def test_the_last_place_of_the_grid_is_the_end_itself(chosen, monkeypatch):
    """Not 0.002, where the grid ends: generation jumps to 0."""
    method, model = started(denoising=0)
    asked, jump = [], model.jump

    def noted(x, sigma, sigma_next, condition):
        asked.append(float(sigma_next))
        return jump(x, sigma, sigma_next, condition)

    monkeypatch.setattr(model, "jump", noted)
    monkeypatch.setattr(method, "solver_steps", lambda randomness: 2)
    monkeypatch.setattr(method, "indices", lambda *_: tuple(torch.tensor([i]) for i in (7, 9, 17)))
    method.loss(model, torch.ones(1, 1, 1), NO_CONDITION, PROGRESS, chosen([0.0], torch.ones(1, 1, 1)))
    assert asked == [0, 0]


def test_denoising_is_what_the_balance_weighs(monkeypatch):
    method, model = started(gain=0.3, denoising=0.5, solver_steps=1)
    parts = []

    def balance(model, consistency, denoising):
        parts.extend((consistency.detach(), denoising.detach()))
        return 3.0

    monkeypatch.setattr(method, "balance", balance)
    loss = method.loss(model, torch.ones(4, 1, 1), NO_CONDITION, PROGRESS, TrainingRandomness(0, 0))
    torch.testing.assert_close(parts[0], loss.per_sample.mean())
    torch.testing.assert_close(loss.value.detach(), parts[0] + 0.5 * 3 * parts[1])


def test_the_balance_by_hand():
    """Gradients 6 and 2 on the last weight: 6 / (2 + 1e-4)."""
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    model = Model(network, CTM().parameterization(0.5), "two-time")
    weight = network[1].weight
    got = CTM().balance(model, (6 * weight).sum(), (-2 * weight).sum())
    assert float(got) == pytest.approx(6 / 2.0001, rel=1e-6)
    assert float(CTM().balance(model, (6 * weight).sum(), (0 * weight).sum())) == 1e4


def test_the_loss_vanishes_at_the_exact_function_as_the_solver_steps_shrink():
    """Heun's error at the end of a jump is of second order: 16 times less in l2 for half the step."""

    def loss(levels):
        method, model = started(PRIOR, levels=levels, solver_steps=1, denoising=0, distance="l2")
        x0 = PRIOR.sample(2048, torch.Generator().manual_seed(0)).float()
        return float(method.loss(model, x0, NO_CONDITION, PROGRESS, TrainingRandomness(0, 0)).value.detach())

    coarse, fine = loss(20), loss(60)
    assert fine < coarse / 100
    assert fine < 1e-6


def test_training_finds_the_exact_function():
    method, model = started(PRIOR, gain=0.3, solver_steps=2, target_decay=0.9)
    optimizer = torch.optim.Adam(method.trainable(model), lr=0.04)
    for step in range(40):
        x0 = PRIOR.sample(256, torch.Generator().manual_seed(step)).float()
        optimizer.zero_grad()
        method.loss(model, x0, NO_CONDITION, PROGRESS, TrainingRandomness(0, step)).value.backward()
        optimizer.step()
        method.after_step(model, PROGRESS)
    assert model.network.gain.detach().abs() < 0.1
    assert model.network.shift.detach().abs() < 0.1
