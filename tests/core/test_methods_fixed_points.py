"""Every method, trained on a Gaussian, against its own fixed point from the papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, NULL_LABEL, Condition
from cmmulti.methods.base import Budget, Method, Progress
from cmmulti.methods.cd import CD, CDSettings
from cmmulti.methods.ct import CT, CTSettings
from cmmulti.methods.ctm import CTM, CTMSettings
from cmmulti.methods.ect import ECT, ECTSettings
from cmmulti.methods.edm import EDM, EDMSettings
from cmmulti.methods.ict import ICT, ICTSettings
from cmmulti.methods.lcm import LCM, LCMSettings
from cmmulti.methods.meanflow import MeanFlow, MeanFlowSettings
from cmmulti.methods.progressive import Progressive, ProgressiveSettings
from cmmulti.methods.scm import SCD, SCT, SCDSettings, SCTSettings
from cmmulti.methods.tcm import TCM, TCMSettings
from cmmulti.model import Model
from cmmulti.parameterization import EDM as EDMForm
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing import fixed_points as theory
from cmmulti.testing.gaussian import Gaussian, GaussianNetwork, gaussian_model

MEAN, VARIANCE, SD = 0.3, 0.25, 0.5
PRIOR = Gaussian.isotropic((1, 4), VARIANCE, MEAN)
NULL = Gaussian.isotropic((1, 4), 0.5, -0.2)
Basis = Callable[[Tensor], Tensor]
"""sigma (B,) -> features (B, K)"""


def table(n: int, low: float = 0.002, high: float = 80.0) -> Basis:
    """One entry for each of the n levels of Karras' curve, the nearest counts."""

    def basis(sigma: Tensor) -> Tensor:
        a, b = high ** (1 / 7), low ** (1 / 7)
        place = (sigma ** (1 / 7) - a) / (b - a) * (n - 1)
        return nn.functional.one_hot(place.round().long().clamp(0, n - 1), n).to(sigma)

    return basis


def spline(spacing: float = 0.6, low: float = 0.03) -> Basis:
    """Cubic B-splines in ln sigma up to 100, constant below ``low``: that a network is bounded there is the boundary."""
    knots = torch.arange(math.log(low) - spacing, math.log(100) + 2 * spacing, spacing, dtype=torch.float64)

    def basis(sigma: Tensor) -> Tensor:
        away = (sigma.clamp_min(low).log()[:, None] - knots) / spacing
        return ((2 - away.abs()).clamp_min(0) ** 3 - 4 * (1 - away.abs()).clamp_min(0) ** 3) / 6

    return basis


def powers(degree: int) -> Basis:
    """Powers of 2 u - 1 at flow matching's time u."""

    def basis(sigma: Tensor) -> Tensor:
        return (2 * sigma / (1 + sigma) - 1)[:, None] ** torch.arange(degree + 1)

    return basis


class Affine(nn.Module):
    """``F = A x + B`` with A and B free at every level or pair of levels, and polynomials in the guidance weight."""

    def __init__(self, form, basis: Basis, pairs: bool = False, degree: int = 0) -> None:
        super().__init__()
        self.form, self.basis, self.pairs, self.degree = form, basis, pairs, degree
        n = basis(torch.ones(1, dtype=torch.float64)).shape[1]
        self.weight = nn.Parameter(torch.zeros(n * (n if pairs else 1) * (degree + 1), 2, dtype=torch.float64))

    def forward(self, x: Tensor, time: Tensor, condition=NO_CONDITION, time_next: Tensor | None = None) -> Tensor:
        features = self.basis(self.form.to_sigma(time.double()))
        if self.pairs:
            other = self.basis(self.form.to_sigma(time_next.double()))
            features = (features[:, :, None] * other[:, None, :]).flatten(1)
        if self.degree:
            powers = (condition.guidance.double()[:, None] - 1.5) ** torch.arange(self.degree + 1)
            features = (features[:, :, None] * powers[:, None, :]).flatten(1)
        gain, shift = (features @ self.weight).view(-1, 2, 1, 1).unbind(1)
        return gain * x + shift


class Labelled(nn.Module):
    """A teacher that knows one Gaussian for a label and another for none."""

    def __init__(self) -> None:
        super().__init__()
        self.label, self.null = (GaussianNetwork(p, EDMForm(SD), "teacher") for p in (PRIOR, NULL))

    def forward(self, x, time, condition, time_next=None):
        known = (condition.label != NULL_LABEL).view(-1, 1, 1)
        return torch.where(known, self.label(x, time), self.null(x, time))


class Balanced(TrainingRandomness):
    """Noise of four elements with the moments of a standard normal law, uncorrelated with :data:`CLEAN`.

    Where a loss is quadratic in the estimates and those are affine, its gradient is then the expected one.
    """

    def normal_like(self, x: Tensor, purpose: str = "noise") -> Tensor:
        if x.dim() == 1:
            return super().normal_like(x, purpose)
        return torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=x.dtype).expand_as(x)


CLEAN = MEAN + SD * torch.tensor([[[1.0, 1.0, -1.0, -1.0]]], dtype=torch.float64)
LATE = Progress(10**6, 0, 0.999)
"""The end of the budget, when every warm-up is over."""


def gradient(method: Method, model: Model, weight: Tensor, batch: int = 256, keys: int = 1, exact: bool = True) -> Tensor:
    """Of the loss at ``weight``, with the same random numbers in every call, of the four points or of real draws."""
    with torch.no_grad():
        model.network.weight.copy_(weight.view_as(model.network.weight))
    # A slow target has come to rest where the student has.
    if getattr(getattr(method, "target", None), "copy", None) is not None:
        method.target.update(model, 0.0)
    model.zero_grad()
    condition = Condition(label=torch.zeros(batch, dtype=torch.int64)) if method.tells_guidance else NO_CONDITION
    for key in range(keys):
        x0 = CLEAN.expand(batch, 1, 4) if exact else PRIOR.sample(batch, torch.Generator().manual_seed(key))
        randomness = (Balanced if exact else TrainingRandomness)(0, key)
        method.loss(model, x0, condition, LATE, randomness).value.backward()
    return model.network.weight.grad.flatten() / keys


def solve(method: Method, model: Model, newton: int = 1, **draws: int) -> Tensor:
    """Weights at which the gradient vanishes, by Newton's method from 0: one step where it is linear in them."""
    weight = torch.zeros(model.network.weight.numel(), dtype=torch.float64)
    # What no sample reaches stays 0.
    reached = gradient(method, model, weight + 0.01, **draws).nonzero()[:, 0].tolist()
    for _ in range(newton):
        at = gradient(method, model, weight, **draws)
        size = 1.0 if newton == 1 else 1e-4
        steps = torch.eye(len(weight), dtype=torch.float64)[reached] * size
        slopes = torch.stack([gradient(method, model, weight + step, **draws) - at for step in steps], 1) / size
        weight[reached] -= torch.linalg.lstsq(slopes, at[:, None], driver="gelsd").solution[:, 0]
    gradient(method, model, weight, **draws)
    return weight


def started(method: Method, basis: Basis, teacher: Model | None = None, **network) -> Model:
    form = method.parameterization(SD)
    model = Model(Affine(form, basis, **network), form, method.role)
    method.setup(model, teacher, Budget(100, 8))
    return model


def apart(call: Callable[..., Tensor], gain: float, s: float, *more: object, centre: float = MEAN) -> float:
    """How far ``call(x, s, *more)`` lies from the wanted estimate of ``gain`` and of value ``centre`` at the mean.

    Root mean square over the law of x at ``s``, relative to the estimate's deviation.
    """
    with torch.no_grad():
        ends = (call(torch.full((1, 1, 4), MEAN + d, dtype=torch.float64), s, *more).mean().item() for d in (-1.0, 1.0))
    low, high = ends
    return math.hypot((high - low) / 2 - gain, ((high + low) / 2 - centre) / math.sqrt(VARIANCE + s**2)) / gain


def furthest(model: Model, levels: list[float], gains: list[float]) -> float:
    return max(apart(model.endpoint, gain, s) for s, gain in zip(levels, gains, strict=True))


def jumps(model: Model, levels: list[float], wanted: Callable[[int, int], float]) -> float:
    """The furthest that a jump between two of the falling ``levels`` lies from its wanted gain."""
    n = len(levels)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    return max(apart(model.jump, wanted(i, j), levels[i], levels[j]) for i, j in pairs)


GRID = theory.karras(18)
SHORT = theory.karras(11)
LEVELS = [0.01, 0.05, 0.2, 0.5, 1.0, 3.0, 10.0, 30.0, 79.0]
EXACT = [theory.exact(VARIANCE, s) for s in LEVELS]
TEACHER = gaussian_model(PRIOR)


def after_steps_of(share: float) -> list[float]:
    return [theory.shrinking(VARIANCE, s, share) for s in LEVELS]


EULER, HEUN = (theory.on_grid(VARIANCE, GRID, solver)[:-1] for solver in ("euler", "heun"))
ONE_TIME = {
    "edm": (EDM(EDMSettings(p_std=2.2)), spline(), None, LEVELS, [theory.denoiser(VARIANCE, s) for s in LEVELS]),
    "cd-euler": (CD(CDSettings(distance="l2", solver="euler", target_decay=0.0)), table(18), TEACHER, GRID[:-1], EULER),
    "cd-heun": (CD(CDSettings(distance="l2", target_decay=0.0)), table(18), TEACHER, GRID[:-1], HEUN),
    "cd-average": (CD(CDSettings(distance="l2", target_decay=0.9)), table(18), TEACHER, GRID[:-1], HEUN),
    "ct": (CT(CTSettings(last=17, distance="l2")), table(18), None, GRID[:-1], EULER),
    "ict": (ICT(ICTSettings(last=10, huber=1e3)), table(11), None, SHORT[:-1], theory.on_grid(VARIANCE, SHORT)[:-1]),
    "ect-coarse": (ECT(ECTSettings(stages=3, huber=1e3)), spline(), None, LEVELS, after_steps_of(1 / 8)),
    "ect": (ECT(ECTSettings(huber=1e3)), spline(), None, LEVELS, after_steps_of(1 / 256)),
    "ect-edm": (ECT(ECTSettings(stages=3, weighting="edm", huber=1e3)), spline(), None, LEVELS, after_steps_of(1 / 8)),
    "sct": (SCT(SCTSettings(p_std=2.2, normalization=1e6)), spline(), None, LEVELS, EXACT),
    "sct-edm": (SCT(SCTSettings(p_std=2.2, normalization=1e6, form="edm")), spline(), None, LEVELS, EXACT),
    "scd": (SCD(SCDSettings(p_std=2.2, normalization=1e6)), spline(), TEACHER, LEVELS, EXACT),
}
"""Method with a quadratic loss, what its network can represent, its teacher, levels and the gains it must have there."""


@pytest.mark.parametrize("name", ONE_TIME)
def test_the_update_vanishes_at_the_methods_own_fixed_point(name):
    """The goal is 3 %. On a grid the answer can be represented exactly; elsewhere splines leave some 0.1 %."""
    method, basis, teacher, levels, gains = ONE_TIME[name]
    model = started(method, basis, teacher)
    solve(method, model)
    assert furthest(model, levels, gains) < (1e-6 if len(levels) > len(LEVELS) else 0.005)


def test_ctm_comes_to_the_heun_steps_between_any_two_levels():
    """The projection by the average is a factor of the student's own: not linear, so several steps of Newton."""
    method = CTM(CTMSettings(levels=4, distance="l2"))
    model = started(method, table(4), TEACHER, pairs=True)
    solve(method, model, newton=3, batch=32, keys=4)
    levels, gains = theory.karras(4), theory.trajectory(VARIANCE, theory.karras(4))
    # The last level of the grid stands for the end, 0, and no jump starts there.
    found = [apart(model.jump, gains[i][3], levels[i], 0.0) for i in range(3)]
    assert max(found) < 0.003
    assert jumps(model, levels[:3], lambda i, j: gains[i][j]) < 0.003


def test_meanflow_comes_to_the_exact_jumps():
    method = MeanFlow(MeanFlowSettings(p_mean=0, p_std=2, apart=0.75, power=0))
    model = started(method, powers(5), pairs=True)
    solve(method, model)
    assert furthest(model, LEVELS, EXACT) < 0.03
    levels = LEVELS[::-1]
    assert jumps(model, levels, lambda i, j: theory.exact(VARIANCE, levels[i], levels[j])) < 0.03


def test_progressive_comes_to_the_teachers_steps_of_all_its_stages():
    """8 Euler steps of the exact denoiser become 4, 2, then 1 of the student's."""
    method = Progressive(ProgressiveSettings(first=4))
    model = started(method, table(9), TEACHER)
    for n in (4, 2, 1):
        method.intervals = lambda progress, n=n: n  # type: ignore[method-assign]
        solve(method, model)
        levels, gains = theory.karras(n + 1)[:-1], theory.progressive(VARIANCE, 4, n)
        assert max(apart(model.denoise, g, s) for s, g in zip(levels, gains, strict=True)) < 1e-6
        for mine, theirs in zip(method.previous.parameters(), model.parameters(), strict=True):
            mine.data.copy_(theirs)


def test_tcm_comes_to_its_own_steps_above_the_split_and_the_first_stages_below():
    first = ECT(ECTSettings(stages=3, huber=1e3))
    teacher = started(first, spline())
    solve(first, teacher)
    method = TCM(TCMSettings(first_stage=4, huber=1e3))
    model = started(method, spline(low=0.5), teacher)
    solve(method, model)
    levels = [1.0, 1.5, 3.0, 10.0, 30.0, 79.0]
    gains = [theory.truncated(VARIANCE, s, 1 / 32, 1 / 8) for s in levels]
    assert furthest(model, levels, gains) < 0.003
    # The steps of either stage alone would end elsewhere.
    assert furthest(model, levels, [theory.shrinking(VARIANCE, s, 1 / 32) for s in levels]) > 0.03
    assert furthest(model, levels, [theory.shrinking(VARIANCE, s, 1 / 8) for s in levels]) > 0.01


def test_lcm_comes_to_the_guided_teachers_steps_for_every_weight():
    method = LCM(LCMSettings(levels=8, guidance=(1.0, 3.0), distance="l2"))
    teacher = Model(Labelled(), EDMForm(SD))
    model = started(method, table(9), teacher, degree=8)
    solve(method, model)
    levels = theory.karras(9)
    for weight in (1.0, 1.7, 2.6, 3.0):
        condition = Condition(guidance=torch.tensor([weight], dtype=torch.float64))
        wanted = theory.guided((MEAN, VARIANCE), (-0.2, 0.5), weight, levels)
        for s, (gain, offset) in zip(levels[:-1], wanted, strict=False):
            assert apart(model.endpoint, gain, s, condition, centre=gain * MEAN + offset) < 1e-3


DEFAULT = {
    "cd-heun": CD(CDSettings(target_decay=0.0)),
    "ct": CT(CTSettings(last=17)),
    "ict": ICT(ICTSettings(last=10)),
    "ect-coarse": ECT(ECTSettings(stages=3)),
    "sct": SCT(SCTSettings(p_std=2.2)),
    "scd": SCD(SCDSettings(p_std=2.2)),
}


@pytest.mark.parametrize("name", DEFAULT)
def test_the_papers_distance_has_the_same_fixed_point(name):
    """What is matched is symmetric about its mean; so with real noise the update is small there and not off it."""
    quadratic, basis, teacher, _, _ = ONE_TIME[name]
    model = started(quadratic, basis, teacher)
    weight = solve(quadratic, model)
    method = DEFAULT[name]
    method.setup(model, teacher, Budget(100, 8))
    here, off = (gradient(method, model, w, 20000, exact=False) for w in (weight, weight + 0.3))
    assert here.norm() < 0.2 * off.norm()


def test_the_known_sizes_of_the_bias():
    """N = 18 Euler steps fall 15 % short at sigma = 80, the last step of ECT, 1/256, by 0.4 %."""
    assert EULER[0] / theory.exact(VARIANCE, 80.0, 0.002) - 1 == pytest.approx(-0.154, abs=5e-4)
    assert theory.shrinking(VARIANCE, 80.0, 1 / 256) / theory.exact(VARIANCE, 80.0) - 1 == pytest.approx(-0.0037, abs=5e-5)
    assert theory.heun(VARIANCE, 2.0, 1.0) == pytest.approx(1 - 0.5 * (2 / 4.25 + (2.25 / 4.25) / 1.25), rel=1e-12)
    fine = theory.on_grid(VARIANCE, theory.karras(4000), "heun")[0]
    assert fine == pytest.approx(theory.exact(VARIANCE, 80.0, 0.002), rel=1e-4)
