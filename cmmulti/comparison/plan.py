"""From the file of a comparison to the runs that it asks for; every mistake in it is told at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cmmulti import registry
from cmmulti.comparison.schema import (
    NAME,
    TEACHER,
    BudgetConfig,
    CellConfig,
    CompareConfig,
    EvaluationConfig,
    MethodConfig,
    TeacherConfig,
    merged,
)
from cmmulti.config import RunConfig, read_yaml, resolve, with_overrides
from cmmulti.config.checking import checked, mistakes
from cmmulti.errors import UserError

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
            told the parent as its teacher.
    """

    cell: str
    method: str
    values: dict[str, Any]
    budget: BudgetConfig | None
    evaluation: EvaluationConfig
    parent: str | None = None
    starts: bool = False
    distils: bool = False

    @property
    def name(self) -> str:
        return f"{self.cell}/{self.method}"

    def config(self, parent: Path | str | None = None, steps: int | None = None) -> RunConfig:
        """The resolved run. ``parent``: where its model lies; ``steps``: what a budget of minutes came to."""
        values = merged(self.values, {"init": str(parent)} if self.starts else {})
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

    def identity(self, cell: Cell) -> dict[str, Any]:
        """All that decides the weights; where the data lie does not. A finished entry is kept while this is the same."""
        run = {k: v for k, v in self.values.items() if k not in ("log", "preview", "validation")}
        run["data"] = {k: v for k, v in dict(run.get("data") or {}).items() if k not in ("root", "workers")}
        told: dict[str, Any] = {"run": run, "budget": None if self.budget is None else self.budget.model_dump(mode="json")}
        told |= {"starts": self.starts, "distils": self.distils, "parent": self.parent}
        parent = cell.parent_of(self)
        return told | {"made from": parent.identity(cell) if isinstance(parent, Entry) else parent}


@dataclass(frozen=True)
class Cell:
    """One data set: its teacher, a folder or name or one to train, and an entry per method."""

    name: str
    title: str
    config: str
    teacher: Entry | str | None
    methods: list[Entry]
    evaluation: EvaluationConfig

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


def load_plan(path: Path, overrides: Iterable[str] = (), data_root: Path | None = None) -> Plan:
    """The runs of a comparison's file with ``--set`` on top.

    Args:
        data_root: the folder that holds the data sets, in place of what the run configs say.

    Raises:
        UserError: one line with every mistake in it.
    """
    values = with_overrides(read_yaml(path), overrides)
    wrong: list[str] = []
    try:
        config: CompareConfig | None = CompareConfig.model_validate(values)
    except ValidationError as error:
        config = None
        wrong += mistakes(error, CompareConfig)
    reader = _Reader(path.parent, values, data_root, config, wrong)
    cells = reader.cells()
    if wrong or config is None:
        raise UserError(f"{path}: " + "; ".join(wrong))
    return Plan(config, cells)


class _Reader:
    """Reads the parts of a comparison's file, noting mistakes instead of raising at the first."""

    def __init__(
        self, folder: Path, values: Mapping[str, Any], root: Path | None, config: CompareConfig | None, wrong: list[str]
    ) -> None:
        self.folder, self.values, self.root, self.config, self.wrong = folder, values, root, config, wrong
        self.methods = {n: self._checked(MethodConfig, v, f"methods.{n}") for n, v in self._parts("methods").items()}

    def cells(self) -> list[Cell]:
        found = [self._cell(name, values) for name, values in self._parts("cells").items()]
        return [cell for cell in found if cell is not None]

    def _cell(self, name: str, values: Mapping[str, Any]) -> Cell | None:
        cell = self._checked(CellConfig, values, f"cells.{name}")
        common = self.values.get("evaluation")
        told = merged(common if isinstance(common, Mapping) else {}, {} if cell is None else cell.evaluation)
        evaluation = None
        if cell is not None and (cell.evaluation or self.config is not None):
            evaluation = self._checked(EvaluationConfig, told, f"cells.{name}.evaluation")
        if cell is None:
            return None
        for method in sorted(cell.for_method.keys() - self.methods.keys()):
            self.wrong.append(f"cells.{name}.for_method: no method {method!r} (known: {', '.join(sorted(self.methods))})")
        base = self._run_file(cell.config, f"cells.{name}.config")
        evaluation = evaluation or EvaluationConfig()
        teacher = self._teacher(name, cell, evaluation)
        entries = []
        for method, settings in self.methods.items():
            if base is None or settings is None:
                continue
            sets = (settings.set, cell.set, cell.for_method.get(method, {}))
            entry = self._entry(name, method, settings, base, sets, evaluation)
            if entry is not None and entry.parent == TEACHER and cell.teacher is None:
                self.wrong.append(f"cells.{name}: method {method} wants a teacher; expected cells.{name}.teacher")
            entries += [entry] if entry is not None else []
        return Cell(name, cell.title or name, cell.config, teacher, entries, evaluation)

    def _entry(
        self,
        cell: str,
        name: str,
        settings: MethodConfig,
        base: Mapping[str, Any],
        sets: Iterable[Mapping[str, Any]],
        evaluation: EvaluationConfig,
    ) -> Entry | None:
        values = {**merged(base, QUIET), "method": settings.method}
        for each in sets:
            values = merged(values, each)
        budget = None if self.config is None else self.config.budget
        try:
            config = resolve(self._seeded(values), f"{cell}/{name}")
            needs = bool(registry.load("methods", config.method.name).needs_teacher)
        except UserError as error:
            self.wrong.append(str(error))
            return None
        start = settings.start or (TEACHER if needs else "scratch")
        parent = TEACHER if start == "scratch" and needs else None if start == "scratch" else start
        earlier = list(self.methods)[: list(self.methods).index(name)]
        if parent not in (None, TEACHER, *earlier):
            known = ", ".join(["teacher", "scratch", *earlier])
            self.wrong.append(f"methods.{name}.start = {start!r}: expected one of {known} (methods above it)")
        return Entry(cell, name, self._seeded(values), budget, evaluation, parent, start != "scratch", needs)

    def _teacher(self, cell: str, settings: CellConfig, evaluation: EvaluationConfig) -> Entry | str | None:
        if settings.teacher is None:
            return None
        where = f"cells.{cell}.teacher"
        if isinstance(settings.teacher, str):
            beside = self.folder / settings.teacher
            place = str(beside) if beside.is_dir() else settings.teacher
            if not Path(place).is_dir() and place not in registry.names("models"):
                self.wrong.append(f"{where} = {place!r}: no model folder and no shipped name")
            return place
        told = self._checked(TeacherConfig, settings.teacher, where)
        base = None if told is None else self._run_file(told.config, f"{where}.config")
        if told is None or base is None:
            return None
        budget = None if told.budget is None else self._checked(BudgetConfig, told.budget, f"{where}.budget")
        values = self._seeded(merged(merged(merged(base, QUIET), told.set), {"init": None, "teacher": None}))
        try:
            config = resolve(values, f"{cell}/{TEACHER}")
            role = registry.load("methods", config.method.name).role
        except UserError as error:
            self.wrong.append(str(error))
            return None
        if role != "teacher":
            self.wrong.append(f"{where}: method {config.method.name} makes a {role} model; expected a denoising teacher")
        return Entry(cell, TEACHER, values, budget, evaluation)

    def _seeded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """With the comparison's seed and the folder of the data."""
        seed = 0 if self.config is None else self.config.seed
        over: dict[str, Any] = {"trainer": {"seed": seed}, "init": None, "teacher": None}
        if self.root is not None:
            over["data"] = {"root": str(self.root)}
        return merged(values, over)

    def _run_file(self, name: str, where: str) -> dict[str, Any] | None:
        try:
            return read_yaml(self.folder / name)
        except UserError as error:
            self.wrong.append(f"{where}: {error}")
            return None

    def _parts(self, section: str) -> dict[str, Mapping[str, Any]]:
        """The named parts of a section; what is no mapping has been told by the schema."""
        found = self.values.get(section)
        parts = {str(k): v for k, v in found.items() if isinstance(v, Mapping)} if isinstance(found, Mapping) else {}
        for name in parts:
            if not re.match(NAME, name) or name == TEACHER:
                self.wrong.append(f"{section}.{name}: expected a name of letters, digits, - _ and ., other than {TEACHER}")
        return parts

    def _checked(self, kind: Any, values: Mapping[str, Any], where: str) -> Any:
        try:
            return checked(kind, values, where)
        except UserError as error:
            self.wrong.append(str(error))
            return None
