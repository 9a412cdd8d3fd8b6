"""Everything that a comparison can be told: methods, cells, a budget, and how the results are measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from cmmulti.config.schema import Section

TEACHER = "teacher"
"""Name of a cell's teacher beside its methods."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Of a method or cell: it becomes a folder."""


class BudgetConfig(Section):
    """``budget:`` of every training: ``minutes`` of compute, or ``steps``.

    Minutes are those of the training process: CPU time of all its threads, or wall time on a GPU. They are turned into
    steps by a short trial before the run begins, because curricula and decays are cut from a number of steps.
    """

    minutes: float | None = Field(default=None, gt=0, le=1e6)
    steps: int | None = Field(default=None, ge=1, le=1_000_000_000)

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("expected either minutes or steps")
        return self

    def times(self, n: int) -> BudgetConfig:
        """The budget of ``n`` models."""
        if self.minutes is not None:
            return self.model_copy(update={"minutes": self.minutes * n})
        return self.model_copy(update={"steps": (self.steps or 0) * n})

    @property
    def told(self) -> str:
        if self.minutes is None:
            return f"{self.steps} step{'s' * (self.steps != 1)}"
        return f"{self.minutes:g} minute{'s' * (self.minutes != 1)} of compute"


class EvaluationConfig(Section):
    """``evaluation:`` how every model is measured; the keys are those of ``cmmulti evaluate``.

    ``split`` is ``val`` unless said otherwise: what is chosen by a comparison must not have been chosen on test items.
    ``steps``: numbers of steps. ``task``, ``options``: an edit or a reconstruction instead of free samples; ``n`` is then
    the number of cases. ``data_options``: of the data set, on top of the run's own.
    """

    n: int = Field(default=500, ge=1)
    seed: NonNegativeInt = 0
    split: Literal["val", "test"] = "val"
    steps: tuple[PositiveInt, ...] = (1, 2, 4)
    classifier_steps: PositiveInt = 1500
    data_options: dict[str, Any] = Field(default_factory=dict)
    task: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _some(self) -> EvaluationConfig:
        if not self.steps:
            raise ValueError("steps: expected at least one number of steps")
        return self


class MethodConfig(Section):
    """One of ``methods:``.

    ``method``: the piece, as in a run config. ``set``: further sections of a run config that this method wants.
    ``start``: whose weights the student starts from: ``teacher``, ``scratch`` (fresh ones), or a method above this one,
    which then is its teacher too; null is ``teacher`` for a method that needs one, ``scratch`` for the others.
    ``joint``: cells that share one model of this method, which is told the modality and has the budget of as many models;
    null trains one for each cell. Its network is that of the first of them.
    """

    method: dict[str, Any]
    set: dict[str, Any] = Field(default_factory=dict)
    start: str | None = None
    joint: tuple[str, ...] | None = Field(default=None, min_length=2)


class TeacherConfig(Section):
    """``teacher:`` of a cell, where it is trained first.

    ``config``: a run config. ``set``: sections of it to change. ``budget``: null trains it as its config says.
    """

    config: str
    set: dict[str, Any] = Field(default_factory=dict)
    budget: dict[str, Any] | None = None


class CellConfig(Section):
    """One of ``cells:``, a data set.

    ``config``: a run config, whose method is left aside. ``set``: sections of it to change. ``for_method``: the same for
    single methods. ``teacher``: a model folder, a shipped name, or a run that is trained first. ``evaluation``: keys that
    differ from the common ones. Paths are relative to the file of the comparison.
    """

    config: str
    title: str = ""
    set: dict[str, Any] = Field(default_factory=dict)
    for_method: dict[str, dict[str, Any]] = Field(default_factory=dict)
    teacher: str | dict[str, Any] | None = None
    evaluation: dict[str, Any] = Field(default_factory=dict)


class CompareConfig(Section):
    """A whole comparison; ``methods`` and ``cells`` are checked one by one, so that all mistakes are told at once.

    ``seed``: of every training: weights, order of the data, noise.
    """

    title: str = "Comparison"
    budget: BudgetConfig
    seed: NonNegativeInt = 0
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    cells: dict[str, dict[str, Any]] = Field(min_length=1)
    evaluation: EvaluationConfig = EvaluationConfig()


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the sections of ``over`` on top, key by key; null gives a key its default back.

    A piece (``method: {name: ...}``) of another name takes the place of the former one whole.
    """
    result = dict(base)
    for key, value in over.items():
        former = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(former, Mapping) and _same_piece(value, former):
            result[key] = merged(former, value)
        else:
            result[key] = value
    return result


def _same_piece(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return "name" not in a or "name" not in b or a["name"] == b["name"]
