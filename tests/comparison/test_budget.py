"""Minutes become steps by a trial that is long enough not to be fooled by the first steps of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmmulti.comparison import budget
from cmmulti.config import RunConfig

STEADY = 0.1


def trials(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A run whose first 40 steps take five times as long as the later ones; the trials that were made of it."""
    made: list[int] = []

    def per_step(config: RunConfig, steps: int, scratch: Path) -> float:
        made.append(steps)
        slow = max(0, 40 - steps)  # as many go before those that are looked at
        return STEADY * (1 + 4 * min(slow, steps) / steps)

    monkeypatch.setattr(budget, "_per_step", per_step)
    return made


@pytest.mark.parametrize("minutes", [10, 30, 600])
def test_slow_first_steps_do_not_count(monkeypatch: pytest.MonkeyPatch, minutes: float) -> None:
    made = trials(monkeypatch)
    assert budget.steps_of(RunConfig.model_construct(), minutes, Path("unused")) == round(60 * minutes / STEADY)
    assert made == sorted(set(made))
    assert budget.LEAST * 0.8 <= made[-1] * STEADY <= budget.MOST


def test_a_trial_is_no_longer_than_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trials(monkeypatch)
    assert budget.steps_of(RunConfig.model_construct(), 0.01, Path("unused")) == 1
    assert made == [budget.FIRST]
