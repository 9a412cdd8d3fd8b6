"""Reads the file of a comparison: every mistake in it, in methods, cells and run configs, is told at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cmmulti import registry
from cmmulti.comparison.plan import QUIET, Cell, Entry, Plan
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
from cmmulti.config import read_yaml, resolve, with_overrides
from cmmulti.config.checking import checked, mistakes
from cmmulti.config.resolve import NETWORK_OF_INIT
from cmmulti.config.schema import JointDataConfig
from cmmulti.errors import UserError, unknown_name


def load_plan(path: Path, overrides: Iterable[str] = (), data_root: Path | None = None) -> Plan:
    """The runs of a comparison's file with ``--set`` on top.

    Args:
        data_root: the folder that holds the data sets, in place of what the run configs say.

    Raises:
        UserError: one line with every mistake in it.
    """
    values = with_overrides(read_yaml(path), overrides)
    if "method" in values and not values.keys() & {"methods", "cells"}:
        raise UserError(f"{path}: the config of one run; expected that of a comparison (`cmmulti train` takes the other)")
    for section in ("methods", "cells"):  # null leaves one out
        if isinstance(values.get(section), Mapping):
            values[section] = {name: told for name, told in values[section].items() if told is not None}
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
        for name, settings in self.methods.items():
            known, asked = registry.names("methods"), "" if settings is None else settings.method.get("name")
            if asked and asked not in known:
                self.wrong.append(f"methods.{name}.method.name: {unknown_name('method', str(asked), known)}")
                self.methods[name] = None
        parts = {n: self._checked(CellConfig, v, f"cells.{n}") for n, v in self._parts("cells").items()}
        self.told: dict[str, CellConfig] = {n: cell for n, cell in parts.items() if cell is not None}
        files = {n: self._run_file(cell.config, f"cells.{n}.config") for n, cell in self.told.items()}
        self.files = {n: values for n, values in files.items() if values is not None}
        for name, settings in self.methods.items():
            for cell in () if settings is None or settings.joint is None else settings.joint:
                if cell not in parts:
                    self.wrong.append(f"methods.{name}.joint: no cell {cell!r} (known: {', '.join(sorted(parts))})")

    def cells(self) -> list[Cell]:
        return [self._cell(name, cell) for name, cell in self.told.items()]

    def _cell(self, name: str, cell: CellConfig) -> Cell:
        common = self.values.get("evaluation")
        told = merged(common if isinstance(common, Mapping) else {}, cell.evaluation)
        evaluation = None
        if cell.evaluation or self.config is not None:
            evaluation = self._checked(EvaluationConfig, told, f"cells.{name}.evaluation")
        for method in sorted(cell.for_method.keys() - self.methods.keys()):
            self.wrong.append(f"cells.{name}.for_method: no method {method!r} (known: {', '.join(sorted(self.methods))})")
        evaluation = evaluation or EvaluationConfig()
        teacher = self._teacher(name, cell, evaluation)
        entries = []
        for method, settings in self.methods.items():
            joint = self._joint(settings)
            if settings is None or (joint and name not in joint) or not self.files.keys() >= {name, *joint}:
                continue
            entry = self._entry(name, method, settings, joint, evaluation)
            if entry is not None and entry.parent == TEACHER and cell.teacher is None and not joint:
                self.wrong.append(f"cells.{name}: method {method} wants a teacher; expected cells.{name}.teacher")
            entries += [entry] if entry is not None else []
        written = cell.teacher if isinstance(cell.teacher, str) else ""
        return Cell(name, cell.title or name, cell.config, teacher, entries, evaluation, written)

    def _joint(self, settings: MethodConfig | None) -> tuple[str, ...]:
        """The cells that share a method's model, in the order of the file; none where each has its own."""
        wanted = () if settings is None or settings.joint is None else settings.joint
        return tuple(name for name in self.told if name in wanted)

    def _entry(
        self, cell: str, name: str, settings: MethodConfig, joint: tuple[str, ...], evaluation: EvaluationConfig
    ) -> Entry | None:
        values = self._run_values(joint[0] if joint else cell, name, settings)
        if joint:
            values["joint"] = {other: self._further(other) for other in joint[1:]}
        budget = None if self.config is None else self.config.budget.times(max(1, len(joint)))
        try:
            # What it may start from lies nowhere yet; `network: {name: init}` is of that model.
            config = resolve({**values, "init": TEACHER}, f"{cell}/{name}")
            needs = bool(registry.load("methods", config.method.name).needs_teacher)
        except UserError as error:
            self.wrong.append(str(error))
            return None
        start = settings.start or (TEACHER if needs else "scratch")
        if start == "scratch" and config.network.name == NETWORK_OF_INIT:
            told = f"expected methods.{name}.start, the model whose network it is"
            self.wrong.append(f"{cell}/{name}: network.name = 'init': {told}")
        parent = TEACHER if start == "scratch" and needs else None if start == "scratch" else start
        above = list(self.methods)[: list(self.methods).index(name)]
        allowed = [TEACHER, *(m for m in above if not self._joint(self.methods[m]))]
        if joint:
            allowed = [m for m in above if self._joint(self.methods[m]) == joint]
        if parent is not None and parent not in allowed:
            known = ", ".join(["scratch", *allowed])
            why = " (a joint model starts from a joint one of the same cells)" if joint else " (or a method above it)"
            self.wrong.append(f"methods.{name}.start = {start!r}: expected one of {known}{why}")
        return Entry(cell, name, values, budget, evaluation, parent, start != "scratch", needs, joint, self.folder)

    def _run_values(self, cell: str, method: str, settings: MethodConfig) -> dict[str, Any]:
        """A cell's run config with what the method and the cell want changed."""
        values = {**merged(self.files[cell], QUIET), "method": settings.method}
        for each in (settings.set, self.told[cell].set, self.told[cell].for_method.get(method, {})):
            values = merged(values, each)
        return self._seeded(values)

    def _further(self, cell: str) -> dict[str, Any]:
        """A cell's modality and data as one of several that a joint model learns."""
        values = self._seeded(merged(self.files[cell], self.told[cell].set))
        data = {k: v for k, v in dict(values.get("data") or {}).items() if k in JointDataConfig.model_fields}
        return {"modality": values.get("modality"), "data": data}

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
        return Entry(cell, TEACHER, values, budget, evaluation, folder=self.folder)

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
