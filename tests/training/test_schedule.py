"""The learning rate at its corners."""

from __future__ import annotations

import math

import pytest

from cmmulti.config import OptimizerConfig
from cmmulti.training.schedule import learning_rate


def rate(step: int, stage_start: int = 0, budget: int = 100, **settings: object) -> float:
    return learning_rate(OptimizerConfig(learning_rate=1.0, **settings), step, budget, stage_start)  # type: ignore[arg-type]


def test_warm_up_is_linear_and_never_zero() -> None:
    assert [rate(s, warmup_steps=4) for s in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(("decay", "later"), [("linear", 0.8), ("cosine", 0.5 + 0.5 * math.cos(math.pi / 5))])
def test_decay_ends_near_zero(decay: str, later: float) -> None:
    """A straight line and half a wave meet in the middle; a fifth of the way they are apart."""
    assert rate(20, decay=decay, decay_start=0.5) == 1
    assert rate(60, decay=decay, decay_start=0.5) == pytest.approx(later)
    assert rate(75, decay=decay, decay_start=0.5) == pytest.approx(0.5)
    assert 0 < rate(99, decay=decay, decay_start=0.5) < 0.05


def test_inverse_square_root() -> None:
    assert rate(10, decay="inverse-sqrt", decay_start=0.1) == 1
    assert rate(40, decay="inverse-sqrt", decay_start=0.1) == pytest.approx(0.5)


def test_a_restart_counts_from_its_own_step() -> None:
    assert rate(50, stage_start=50, warmup_steps=1) == pytest.approx(0.5)
    assert rate(75, stage_start=50, decay="linear") == pytest.approx(0.5)
    assert rate(75, stage_start=50, decay="linear", decay_start=0.5) == 1
    assert rate(90, stage_start=50, decay="linear", decay_start=0.5) == pytest.approx(0.4)


@pytest.mark.parametrize("decay", [{"decay": "linear"}, {"decay": "cosine"}, {"decay": "inverse-sqrt", "decay_start": 0.1}])
def test_a_decay_that_is_due_earlier_begins_where_the_warm_up_ends(decay: dict[str, object]) -> None:
    """No step from a rate that has just risen to that of a decay which began long before."""
    rates = [rate(s, warmup_steps=50, **decay) for s in range(100)]
    assert max(rates) == rates[50] == 1
    assert max(abs(b - a) for a, b in zip(rates, rates[1:], strict=False)) < 0.04
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[99] < 0.05 or decay["decay"] == "inverse-sqrt"
