import numpy as np
import pytest

from modalities.audio import extrapolation
from modalities.audio.extrapolation import burg, continued, extrapolated, texture

RATE = 8000


def tones(n: int) -> np.ndarray:
    t = np.arange(n) / RATE
    return 0.5 * np.sin(2 * np.pi * 300 * t) + 0.3 * np.sin(2 * np.pi * 1130 * t + 1) + 0.1 * np.cos(2 * np.pi * 2950 * t)


def test_tones_go_on() -> None:
    x = tones(1200)
    np.testing.assert_allclose(continued(x[:800], 400, RATE), x[800:], atol=0.02)


def test_a_hole_in_tones_is_filled_from_both_sides() -> None:
    x = tones(2400)
    filled = extrapolated(x, [(800, 1200), (1900, 2000)], RATE)
    assert np.sqrt(((filled - x) ** 2).mean()) < 0.01
    inside = np.r_[800:1200, 1900:2000]
    np.testing.assert_array_equal(np.delete(filled, inside), np.delete(x, inside))


def test_what_lies_in_the_holes_plays_no_part() -> None:
    spans = [(500, 700), (705, 900), (1900, 2000)]
    x = tones(2000) + 0.1 * np.random.default_rng(0).standard_normal(2000)
    other = x.copy()
    for a, b in spans:
        other[a:b] = 1e6
    first, second = extrapolated(x, spans, RATE), extrapolated(other, spans, RATE)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("spans", [[(0, 100)], [(1900, 2000)], [(0, 2000)]])
def test_holes_at_the_ends_have_one_side_or_none(spans: list[tuple[int, int]]) -> None:
    result = extrapolated(tones(2000), spans, RATE)
    assert np.isfinite(result).all()
    assert np.abs(result).max() < 1.5


def test_silence_goes_on_as_silence() -> None:
    np.testing.assert_array_equal(continued(np.zeros(800), 50, RATE), np.zeros(50))


def test_it_never_grows() -> None:
    draws = np.random.default_rng(0)
    for _ in range(20):
        x = draws.standard_normal(600) * np.exp(draws.uniform(-1, 3) * np.arange(600) / 600)
        assert np.abs(continued(x, 20000, RATE)[-100:]).max() < np.abs(x).max()


def test_burgs_error_is_the_innovation() -> None:
    draws = np.random.default_rng(0)
    x = np.zeros(20000)
    noise = 0.3 * draws.standard_normal(20000)
    for t in range(2, 20000):
        x[t] = 1.2 * x[t - 1] - 0.8 * x[t - 2] + noise[t]
    coefficients, error = burg(x, 4)
    np.testing.assert_allclose(coefficients, [1.2, -0.8, 0, 0], atol=0.03)
    assert error == pytest.approx(0.3, rel=0.02)


def test_noise_goes_on_at_its_level() -> None:
    draws = np.random.default_rng(0)
    x = 0.2 * draws.standard_normal(4000)
    hole = texture(x[:1500], x[2500:], draws.standard_normal((2, 1000)), RATE)
    assert hole[100:-100].std() == pytest.approx(0.2, rel=0.15)


def test_the_prediction_of_very_high_rates_is_of_bounded_order(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []

    def noted(x: np.ndarray, order: int) -> tuple[np.ndarray, float]:
        orders.append(order)
        return np.zeros(order), 0.0

    monkeypatch.setattr(extrapolation, "burg", noted)
    for rate in (192_000, 1_000_000):
        continued(np.ones(rate // 5), 10, rate)
    assert orders == [3840, extrapolation.LONGEST]
