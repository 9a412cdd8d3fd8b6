"""Losses and schedules of EDM, CD, CT and ECT against the papers' formulas, written out here in float64."""

import copy
import math

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.cd import CD, CDSettings
from cmmulti.methods.ct import CT, CTSettings
from cmmulti.methods.ect import ECT, ECTSettings
from cmmulti.methods.edm import EDM, EDMSettings
from cmmulti.model import Model
from cmmulti.parameterization import EDM as EDMForm

SD, END = 0.5, 0.002
X0, NOISE = (0.3, -0.4), (-0.7, 1.1)
BUDGET = Budget(100, 8)


def karras(n):
    high, low = 80 ** (1 / 7), END ** (1 / 7)
    return [(high + i / (n - 1) * (low - high)) ** 7 for i in range(n)]


def skip(s, end=0.0):
    """c_skip of EDM, and with ``end`` of the consistency form: the estimate of a silent network over its input."""
    return SD**2 / ((s - end) ** 2 + SD**2)


def noisy(s):
    return [a + s * z for a, z in zip(X0, NOISE, strict=True)]


def norm(values):
    return math.sqrt(sum(v * v for v in values))


def batch(n=1):
    x0, noise = (torch.tensor([[v]], dtype=torch.float64).repeat(n, 1, 1) for v in (X0, NOISE))
    return x0, noise


def silent_pair(method, silent):
    """A silent student and a silent teacher, whose posterior mean is ``c_skip x``."""
    model = Model(copy.deepcopy(silent), method.parameterization(SD), method.role)
    method.setup(model, Model(copy.deepcopy(silent), EDMForm(SD)) if method.needs_teacher else None, BUDGET)
    return model


def test_edm(chosen, silent):
    """(s^2 + sd^2) / (s sd)^2 times the mean of (D - x0)^2."""
    s = 0.7
    method = EDM(EDMSettings(p_mean=math.log(s), p_std=1e-12))
    loss = method.loss(silent_pair(method, silent), batch()[0], NO_CONDITION, Progress(0, 0, 0), chosen([0.5], batch()[1]))
    apart = [skip(s) * x - x0 for x, x0 in zip(noisy(s), X0, strict=True)]
    want = (s**2 + SD**2) / (s * SD) ** 2 * norm(apart) ** 2 / 2
    assert float(loss.value.detach()) == pytest.approx(want, rel=1e-6)
    assert (EDM().settings.p_mean, EDM().settings.p_std) == (-1.2, 1.2)


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("kind", ["l2", "l1", "huber"])
def test_cd(chosen, silent, solver, kind):
    """A step of dx/ds = (x - D) / s from s_i to s_{i+1}, the student at s_i, the target at s_{i+1}; i uniform on 0..N-2."""
    method = CD(CDSettings(levels=5, solver=solver, distance=kind))
    model = silent_pair(method, silent)
    x0, noise = batch(4000)
    loss = method.loss(model, x0, NO_CONDITION, Progress(0, 0, 0), chosen([0.5], noise))
    grid = karras(5)
    for s, after in zip(grid, grid[1:], strict=False):
        mine = (loss.sigma - s).abs() < 1e-5 * s
        assert float(mine.double().mean()) == pytest.approx(0.25, abs=0.03)
        student, target = [], []
        for x in noisy(s):
            slope = (x - skip(s) * x) / s
            ahead = x + (after - s) * slope
            if solver == "heun":
                ahead = x + (after - s) * (slope + (ahead - skip(after) * ahead) / after) / 2
            student.append(skip(s, END) * x)
            target.append(skip(after, END) * ahead)
        apart = [a - b for a, b in zip(student, target, strict=True)]
        c = 0.00054 * math.sqrt(2)
        want = {"l2": norm(apart) ** 2 / 2, "l1": sum(map(abs, apart)) / 2, "huber": math.hypot(norm(apart), c) - c}[kind]
        assert loss.per_sample[mine].tolist() == pytest.approx([want] * int(mine.sum()), rel=2e-5)


def test_ct(chosen, silent):
    """Both ends of a step from the same noise; half through, n = ceil(sqrt(((s_1 + 1)^2 - s_0^2) / 2 + s_0^2) - 1)."""
    method = CT(CTSettings(first=2, last=5, distance="l2"))
    model = silent_pair(method, silent)
    n = math.ceil(math.sqrt(0.5 * (36 - 4) + 4) - 1)
    assert n == 4
    assert method.decay(Progress(0, 0, 0.5)) == pytest.approx(0.9 ** (2 / 4), rel=1e-12)
    x0, noise = batch(4000)
    loss = method.loss(model, x0, NO_CONDITION, Progress(50, 0, 0.5), chosen([0.5], noise))
    grid = karras(n + 1)
    for s, after in zip(grid, grid[1:], strict=False):
        mine = (loss.sigma - s).abs() < 1e-5 * s
        assert float(mine.double().mean()) == pytest.approx(0.25, abs=0.03)
        apart = [skip(s, END) * a - skip(after, END) * b for a, b in zip(noisy(s), noisy(after), strict=True)]
        assert loss.per_sample[mine].tolist() == pytest.approx([norm(apart) ** 2 / 2] * int(mine.sum()), rel=2e-5)


def test_ct_default_curriculum():
    """s_0 = 2, s_1 = 150, mu_0 = 0.9: 2 levels at first, 151 at last; the last decay is 0.9^(2/150)."""
    ct = CT()
    for fraction in (0.0, 0.1, 0.37, 0.999):
        n = max(1, math.ceil(math.sqrt(fraction * (151**2 - 2**2) + 2**2) - 1))
        assert ct.intervals(Progress(0, 0, fraction)) == n
        assert ct.decay(Progress(0, 0, fraction)) == pytest.approx(math.exp(2 * math.log(0.9) / n), rel=1e-12)


@pytest.mark.parametrize("stage", range(8))
def test_ect_target_levels(stage):
    """r = max(0, t (1 - (1 + 8 / (1 + e^t)) / 2^(stage + 1)))."""
    t = torch.tensor([0.002, 0.1, 1.0, 2.0, 80.0], dtype=torch.float64)
    want = [max(0.0, v * (1 - (1 + 8 / (1 + math.exp(v))) / 2 ** (stage + 1))) for v in t.tolist()]
    assert ECT().target_level(t, stage).tolist() == pytest.approx(want, rel=1e-12)


def test_ect_target_levels_of_imagenet():
    """q = 4 in four stages: 1/4, 1/16, 1/64, 1/256."""
    method = ECT(ECTSettings(q=4, stages=4))
    t = torch.tensor([80.0], dtype=torch.float64)
    found = [float(1 - method.target_level(t, method.stage(Progress(0, 0, f))) / 80) for f in (0.0, 0.3, 0.6, 0.9)]
    assert found == pytest.approx([1 / 4, 1 / 16, 1 / 64, 1 / 256], rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "c", "weight"),
    [
        ({}, 0.0, lambda t, r: 1 / (t - r)),
        ({"huber": 0.06, "weighting": "edm"}, 0.06, lambda t, r: (t**2 + SD**2) / (t * SD) ** 2),
    ],
    ids=["cifar", "imagenet"],
)
@pytest.mark.parametrize(("t", "fraction", "step"), [(2.0, 0.3, 1 / 8), (1.5, 0.0, 1 / 2)])
def test_ect(chosen, silent, settings, c, weight, t, fraction, step):
    """w (sqrt(|f(x_t) - f(x_r)|^2 + c^2) - c); in stage 0 at t = 1.5 r is 0, and the target the clean example."""
    method = ECT(ECTSettings(p_mean=math.log(t), p_std=1e-12, **settings))
    model = silent_pair(method, silent)
    loss = method.loss(model, batch()[0], NO_CONDITION, Progress(0, 0, fraction), chosen([0.5], batch()[1]))
    r = max(0.0, t * (1 - step * (1 + 8 / (1 + math.exp(t)))))
    assert (r > 0) == (fraction > 0)
    target = [skip(r) * x for x in noisy(r)]
    apart = norm([skip(t) * x - y for x, y in zip(noisy(t), target, strict=True)])
    assert float(loss.value.detach()) == pytest.approx(weight(t, r) * (math.hypot(apart, c) - c), rel=1e-5)
