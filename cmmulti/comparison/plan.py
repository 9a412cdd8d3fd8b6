"""The runs that a comparison asks for: an entry for each model, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmmulti.comparison.schema import TEACHER, BudgetConfig, CompareConfig, EvaluationConfig, merged
from cmmulti.config import RunConfig, resolve
from cmmulti.training.sources import shares

QUIET: dict[str, Any] = {
    "preview": {"every_steps": 0},
    "validation": {"every_steps": 0},
    "log": {"tensorboard": False},
    "checkpoint": None,
}
"""What a compared run is told unless ``set`` says otherwise: looking at a model is no part of its training's cost."""

CHECKPOINTS = 20
"""Checkpoints of a run whose ``set`` says nothing about them: a kill then costs a twentieth at most."""


@dataclass(frozen=True)
class Entry:
    """One model of the comparison, to be trained and measured.

    Args:
        cell, method: its names; ``teacher`` for the one that a cell's methods distil.
        values: its run config but for ``init`` and ``teacher``. budget: None trains it as the config says.
        evaluation: how it is measured. parent: the entry of its cell that it is made from (``teacher``, or an earlier
            method), None for none. starts: whether it begins with the parent's weights. distils: whether its method is
            told the parent as its teacher. joint: the cells that share a model, trained in the first. folder: of the
            comparison's file, from which ``method.distance.path`` is looked for first.
    """

    cell: str
    method: str
    values: dict[str, Any]
    budget: BudgetConfig | None
    evaluation: EvaluationConfig
    parent: str | None = None
    starts: bool = False
    distils: bool = False
    joint: tuple[str, ...] = ()
    folder: Path = Path()

    @property
    def name(self) -> str:
        return f"{self.cell}/{self.method}"

    @property
    def home(self) -> str:
        """The cell that it is trained in."""
        return self.joint[0] if self.joint else self.cell

    def here(self, config: RunConfig) -> RunConfig:
        """The part of its run that is of its own cell: a joint model's has others."""
        return shares(config)[self.joint.index(self.cell)].config if self.joint else config

    def config(self, parent: Path | str | None = None, steps: int | None = None) -> RunConfig:
        """The resolved run. ``parent``: where its model lies; ``steps``: what a budget of minutes came to."""
        values = merged(self._placed(), {"init": str(parent)} if self.starts else {})
        if self.distils:
            values["teacher"] = str(parent)
        steps = steps or (None if self.budget is None else self.budget.steps)
        if steps is not None:
            values = merged(values, {"trainer": {"max_steps": steps}})
        config = resolve(values, self.name)
        if "checkpoint" in self.values:
            return config
        every = max(1, config.trainer.max_steps // CHECKPOINTS)
        return config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"every_steps": every})})

    def _placed(self) -> dict[str, Any]:
        """The values with the network that a distance asks for, found beside the comparison's file where it is there."""
        distance = dict(self.values["method"]).get("distance")
        path = distance.get("path") if isinstance(distance, dict) else None
        if not isinstance(path, str) or not (beside := self.folder / path).exists():
            return self.values
        return merged(self.values, {"method": {"distance": {"path": str(beside)}}})

    def identity(self, cell: Cell) -> dict[str, Any]:
        """All that decides the weights; where the data lie does not. A finished entry is kept while this is the same."""
        run = {k: v for k, v in self.values.items() if k not in ("log", "preview", "validation")}
        run["data"] = _without_places(run.get("data"))
        if "joint" in run:
            run["joint"] = {name: {**part, "data": _without_places(part["data"])} for name, part in run["joint"].items()}
        told: dict[str, Any] = {"run": run, "budget": None if self.budget is None else self.budget.model_dump(mode="json")}
        told |= {"starts": self.starts, "distils": self.distils, "parent": self.parent}
        parent = cell.parent_of(self)
        return told | {"made from": parent.identity(cell) if isinstance(parent, Entry) else parent and cell.written}


def _without_places(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """A ``data:`` section without what one machine alone knows."""
    return {k: v for k, v in dict(data or {}).items() if k not in ("root", "workers")}


@dataclass(frozen=True)
class Cell:
    """One data set: its teacher, a folder or name or one to train, and an entry per method.

    ``written``: a teacher's folder as the file of the comparison names it, however that file itself was named.
    """

    name: str
    title: str
    config: str
    teacher: Entry | str | None
    methods: list[Entry]
    evaluation: EvaluationConfig
    written: str = ""

    @property
    def entries(self) -> list[Entry]:
        """Everything that is trained, in order: what others are made from comes before them."""
        return [*([self.teacher] if isinstance(self.teacher, Entry) else []), *self.methods]

    def parent_of(self, entry: Entry) -> Entry | str | None:
        """What an entry is made from: another entry, or a model that was there before."""
        if entry.parent == TEACHER:
            return self.teacher
        return next((other for other in self.methods if other.method == entry.parent), None)


@dataclass(frozen=True)
class Plan:
    """A comparison whose config holds no mistake."""

    config: CompareConfig
    cells: list[Cell]

    @property
    def entries(self) -> list[tuple[Cell, Entry]]:
        return [(cell, entry) for cell in self.cells for entry in cell.entries]
