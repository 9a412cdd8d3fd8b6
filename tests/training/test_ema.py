"""Averages agree with their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cmmulti.training.ema import EMA, HalfLife, Power, gamma_of


def history(profile: HalfLife | Power, steps: int) -> tuple[torch.Tensor, list[float]]:
    """The average after ``steps`` updates of a parameter that is its own step number, starting from -1000."""
    parameter = nn.Parameter(torch.tensor([-1000.0]))
    ema = EMA([parameter], {"p": profile})
    for step in range(1, steps + 1):
        parameter.data.fill_(step)
        ema.update(step)
    weights = [1.0]
    for step in range(steps, 1, -1):
        weights.append(weights[-1] * profile.beta(step))
    return ema.weights("p")[0], weights


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.10, 6.94), (0.075, 10.29)])
def test_gamma_of_edm2(sigma_rel: float, gamma: float) -> None:
    g = gamma_of(sigma_rel)
    assert g == pytest.approx(gamma, abs=5e-3)
    assert math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) == pytest.approx(sigma_rel, rel=1e-6)


def test_power_average_is_the_mean_under_its_profile() -> None:
    n = 400
    average, _ = history(Power(0.1), n)
    g = gamma_of(0.1)
    # The mean of tau under the density (g + 1) tau^g / t^(g + 1) on [0, t].
    assert float(average) == pytest.approx((g + 1) / (g + 2) * n, rel=5e-3)


def test_power_average_forgets_its_start() -> None:
    average, _ = history(Power(0.2), 1)
    assert float(average) == 1


def test_half_life_halves() -> None:
    profile = HalfLife(10, ramp=0)
    assert profile.beta(5) ** 10 == pytest.approx(0.5)
    average, _ = history(profile, 300)
    # Steady state of an exponential average of a ramp: it lags by beta / (1 - beta) steps.
    beta = profile.beta(1)
    assert 300 - float(average) == pytest.approx(beta / (1 - beta), rel=1e-3)


def test_ramp_shortens_the_half_life_early_and_forgets_the_start() -> None:
    profile = HalfLife(1000, ramp=0.05)
    assert profile.beta(1) == 0
    assert profile.beta(101) == pytest.approx(0.5 ** (1 / 5))
    assert profile.beta(10**6) == pytest.approx(0.5 ** (1 / 1000))


def test_several_averages_of_several_tensors_in_float32() -> None:
    network = nn.Linear(3, 2).bfloat16()
    ema = EMA(network.parameters(), {"a": HalfLife(2, 0), "b": Power(0.1)})
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1)
    ema.update(5)
    assert {t.dtype for name in ("a", "b") for t in ema.weights(name)} == {torch.float32}
    state = {k: [t.clone() for t in v] for k, v in ema.state_dict().items()}
    other = EMA(network.parameters(), ema.profiles)
    other.load_state_dict(state)
    assert all(torch.equal(x, y) for x, y in zip(other.weights("b"), ema.weights("b"), strict=True))
    assert torch.equal(ema.weights("raw")[0], next(network.parameters()))


def one_hot_average(profile: Power, steps: int) -> torch.Tensor:
    """The weight that each step has in the average: of a parameter that is 1 at its own step's place, else 0."""
    parameter = nn.Parameter(torch.zeros(steps))
    ema = EMA([parameter], {"p": profile})
    for step in range(1, steps + 1):
        parameter.data.zero_()[step - 1] = 1
        ema.update(step)
    return ema.weights("p")[0]


@pytest.mark.parametrize("width", [0.03, 0.1, 0.2, 0.285])
def test_power_average_has_the_closed_form(width: float) -> None:
    """Step k weighs the integral of (g + 1) tau^g / t^(g + 1) over [k - 1, k]."""
    steps, g = 200, gamma_of(width)
    edges = (torch.arange(steps + 1, dtype=torch.float64) / steps) ** (g + 1)
    torch.testing.assert_close(one_hot_average(Power(width), steps).double(), edges.diff(), rtol=1e-4, atol=1e-7)
