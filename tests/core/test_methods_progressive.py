"""Progressive distillation against values worked out from its papers."""

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION
from cmmulti.errors import UserError
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.progressive import Progressive, ProgressiveSettings
from cmmulti.model import Model
from cmmulti.testing.gaussian import Gaussian, gaussian_model

PRIOR = Gaussian.isotropic((1, 1), 0.25)
CURVE_START = [80, 17.5278319646, 2.51521897615, 0.169752756269]
CURVE_MIDDLE = [39.0166847935, 7.10050983377, 0.743379133665, 0.0260549988896]
CURVE_END = [17.5278319646, 2.51521897615, 0.169752756269, 0.002]
TARGET = 0.00341776403128


def started(gain=0.0, **settings):
    method = Progressive(ProgressiveSettings(**settings))
    model = gaussian_model(PRIOR, "teacher", method.parameterization(0.5), learnable=True)
    torch.nn.init.constant_(model.network.gain, gain)
    method.setup(model, gaussian_model(PRIOR), Budget(300, 8))
    return method, model


def at(step, steps=300):
    return Progress(step, 8 * step, min(step / steps, 1 - 1e-9))


def test_n_halves_and_the_last_two_stages_are_twice_as_long():
    """4096 ... 4 are eleven stages, 2 and 1 take two shares each: fifteen shares of twenty steps."""
    method, _ = started(first=4096)
    found = [method.intervals(at(20 * i)) for i in range(15)]
    assert found == [4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 2, 1, 1]
    assert [method.intervals(at(s)) for s in (19, 20, 219, 220, 259, 260, 299)] == [4096, 2048, 4, 2, 2, 1, 1]
    other, _ = started(first=16, last=4)
    assert [other.intervals(at(s)) for s in (0, 99, 100, 199, 200, 299)] == [16, 16, 8, 8, 4, 4]


def test_the_levels_lie_on_the_curve_cut_into_n():
    """(80^(1/7) + u (0.002^(1/7) - 80^(1/7)))^7 at u = i/4, (i + 1/2)/4, (i + 1)/4."""
    method, _ = started()
    start, middle, end = method.levels(torch.arange(4), 4, 80.0)
    assert start.tolist() == pytest.approx(CURVE_START, rel=1e-11)
    assert middle.tolist() == pytest.approx(CURVE_MIDDLE, rel=1e-11)
    assert end.tolist() == pytest.approx(CURVE_END, rel=1e-9)


def test_the_target_by_hand():
    """x = 2 at the second of four intervals, D(x, s) = 0.25/(0.25 + s^2) x: two Euler steps, then one step's estimate."""
    method, _ = started()
    levels = method.levels(torch.tensor([1]), 4, 80.0)
    x = torch.full((1, 1, 1), 2.0, dtype=torch.float64)
    target = method.two_steps(gaussian_model(PRIOR), x, levels, NO_CONDITION)
    assert float(target) == pytest.approx(TARGET, rel=1e-10)


def test_the_loss_by_hand(chosen, silent):
    """u = 0.3 falls on i = 1 of 4; the silent student's D is c_skip x; the weight above sigma = 1 is 1."""
    method = Progressive(ProgressiveSettings(first=4))
    model = Model(silent, method.parameterization(0.5), "teacher")
    method.setup(model, gaussian_model(PRIOR), Budget(300, 8))
    # x = 0 + t z with t z = 2, as in the target above.
    t = 17.5278319646
    loss = method.loss(model, torch.zeros(1, 1, 1), NO_CONDITION, at(0), chosen([0.3], torch.tensor([[[2 / t]]])))
    want = (0.25 / (0.25 + t**2) * 2 - TARGET) ** 2
    assert float(loss.value.detach()) == pytest.approx(want, rel=1e-4)
    assert float(loss.sigma) == pytest.approx(t, rel=1e-6)
    # u = 0.95 falls on i = 3, whose t = 0.17: there the weight is 1/t^2.
    t = 0.169752756269
    loss = method.loss(model, torch.ones(1, 1, 1), NO_CONDITION, at(0), chosen([0.95], torch.zeros(1, 1, 1)))
    start, middle, end = (v.double() for v in method.levels(torch.tensor([3]), 4, 80.0))
    h = 1 + (middle - start) * (1 - 0.25 / (0.25 + start**2)) / start
    after = h + (end - middle) * (h - 0.25 / (0.25 + middle**2) * h) / middle
    target = 1 - start * (after - 1) / (end - start)
    want = (0.25 / (0.25 + t**2) - target) ** 2 / t**2
    assert float(loss.value.detach()) == pytest.approx(float(want), rel=1e-3)


def test_the_student_becomes_the_teacher_and_the_optimizer_starts_anew():
    method, model = started(0.3, first=4)
    assert method.intervals(at(59)) == 4
    assert method.after_step(model, at(59)) is None
    torch.nn.init.constant_(model.network.gain, 0.5)
    event = method.after_step(model, at(60))
    assert event.reset_optimizer
    assert event.message == "progressive distillation: 4 steps into 2"
    torch.nn.init.constant_(model.network.gain, 0.7)
    assert float(method.previous.network.gain) == pytest.approx(0.5)
    assert not any(p.requires_grad for p in method.previous.parameters())
    # One event per stage, whatever the rounding of the fraction.
    events = [method.after_step(model, at(s)) for s in range(1, 300)]
    assert [s for s, e in enumerate(events, 1) if e] == [60, 180]


def test_the_next_teacher_has_the_students_buffers():
    method = Progressive(ProgressiveSettings(first=4))
    model = Model(torch.nn.BatchNorm1d(1), method.parameterization(0.5), "teacher")
    method.setup(model, gaussian_model(PRIOR), Budget(300, 8))
    model.network.running_mean.fill_(3.0)
    method.after_step(model, at(60))
    assert float(method.previous.network.running_mean) == 3


def test_the_second_stage_learns_from_the_first(chosen):
    """What the student of the stage before was changes the loss of the second stage, and not that of the first."""
    method, model = started(0.5, first=2)
    noise = torch.ones(1, 1, 1)
    early = [method.loss(model, noise, NO_CONDITION, at(s), chosen([0.0], noise)) for s in (0, 299)]
    torch.nn.init.constant_(method.previous.network.gain, 0.0)
    late = [method.loss(model, noise, NO_CONDITION, at(s), chosen([0.0], noise)) for s in (0, 299)]
    assert float(early[0].value.detach()) == float(late[0].value.detach())
    assert float(early[1].value.detach()) != float(late[1].value.detach())


def test_sampling_levels():
    method, _ = started(first=8, last=4)
    assert method.sampling_levels(80.0)[4] == pytest.approx(CURVE_START, rel=1e-11)
    assert started()[0].sampling_levels(80.0) == {1: (80.0,)}


@pytest.mark.parametrize("settings", [{"first": 6}, {"first": 4, "last": 8}, {"last": 3}])
def test_n_that_does_not_halve_is_refused(settings):
    with pytest.raises(UserError, match=r"method.first = .*expected powers of two"):
        started(**settings)
