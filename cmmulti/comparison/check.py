"""Try everything that a comparison needs before it trains anything: data, networks, teachers, tasks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cmmulti.comparison.plan import Cell, Entry
from cmmulti.comparison.schema import TEACHER, EvaluationConfig
from cmmulti.config import RunConfig
from cmmulti.config.checking import checked
from cmmulti.errors import UserError, unknown_name
from cmmulti.evaluation.study import FEWEST
from cmmulti.modality import DataSource
from cmmulti.pipeline import Pipeline
from cmmulti.training.build import Parts, build, load_pipeline, pipeline_config
from cmmulti.training.dry_run import Trial, trial
from cmmulti.training.export import assembled
from cmmulti.training.sources import build_modality, data_source

Place = Callable[[Cell, Entry], Path | str | None]
"""Where the model lies that an entry is made from; None where it is not there yet."""


def check(work: Iterable[tuple[Cell, Entry]], trained: Place, tell: Callable[[str], None]) -> dict[str, Trial]:
    """Build every entry, take one gradient of it, and look for what its evaluation asks for.

    A teacher that is yet to be trained is stood in for by its network with fresh weights.

    Returns:
        What each training would be, by the entry's name; of a joint model in its first cell.

    Raises:
        UserError: one line with every mistake in it.
    """
    wrong: list[str] = []
    trials: dict[str, Trial] = {}
    looked: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        stand_ins: dict[str, Path] = {}
        for cell, entry in work:
            try:
                parent = trained(cell, entry) or _stand_in(cell, entry, Path(folder), stand_ins)
                if parent is None and entry.parent is not None:
                    continue  # its own mistake is told
                config = entry.config(parent)
                if entry.home == cell.name:
                    trials[entry.name] = found = trial(config)
                    tell(f"{entry.name}: {found.told(None if entry.budget is None else entry.budget.told)}")
                if cell.name not in looked:
                    looked.add(cell.name)
                    _check_evaluation(cell, entry.here(config))
                    _check_teacher(cell, entry.here(config))
            except UserError as error:
                told = str(error).replace(f"{folder}{os.sep}", "")  # what stands in for a teacher is called by its name
                wrong.append(told if told.startswith(entry.name) else f"{entry.name}: {told}")
    if wrong:
        raise UserError("; ".join(dict.fromkeys(wrong)))
    return trials


def _stand_in(cell: Cell, entry: Entry, folder: Path, made: dict[str, Path]) -> Path | str | None:
    """An untrained model of what an entry is made from; None where it is made from nothing, or that cannot be built."""
    parent = cell.parent_of(entry)
    if not isinstance(parent, Entry):
        return parent
    if parent.name not in made:
        own = _stand_in(cell, parent, folder, made)
        if own is None and parent.parent is not None:
            return None
        try:
            parts = build(parent.config(own))
        except UserError:
            return None
        made[parent.name] = _pipeline(parts).save_pretrained(folder / cell.name / parent.method)
    return made[parent.name]


def _pipeline(parts: Parts) -> Pipeline:
    share = parts.shares[0]
    model, settings = parts.model, pipeline_config(parts.config, parts.method, share, parts.classes[share.name])
    if parts.method.networks > 1:  # from which no other model can start
        model, settings = assembled(parts.config, parts.method, model, settings, {})
    return Pipeline(model.eval(), parts.modality, settings)


def _check_teacher(cell: Cell, config: RunConfig) -> None:
    """A teacher that is there already fits the cell, and is one."""
    if isinstance(cell.teacher, str) and (role := load_pipeline(cell.teacher, config).model.role) != TEACHER:
        raise UserError(f"cells.{cell.name}.teacher = {cell.teacher!r}: a {role} model; expected a denoising teacher")


def _check_evaluation(cell: Cell, config: RunConfig) -> None:
    """The held-out part, the number of samples, the task and its options."""
    asked = cell.evaluation
    modality = build_modality(config).measured(data_source(config))
    held_out = modality.dataset(source_of(config, asked), asked.split)
    if asked.task is None:
        if len(held_out) and (shape := tuple(held_out.tensor(0, None).shape)) != modality.shape:
            raise UserError(
                f"evaluation: {shape} is the shape of an item of {config.data.name}, {modality.shape} that of a sample; "
                f"expected evaluation.data_options that make them equal (the run's are {config.data.options})"
            )
        for what, n in (("n", asked.n), (f"the {asked.split} part", len(held_out))):
            if n < FEWEST:
                raise UserError(f"evaluation: {what} = {n}; expected at least {FEWEST} for figures with a meaning")
        return
    if asked.task not in modality.tasks:
        raise unknown_name(f"{modality.name} task", asked.task, modality.tasks)
    checked(modality.tasks[asked.task].Options, asked.options, f"evaluation: task {asked.task}")
    if not len(held_out.cases):
        raise UserError(f"evaluation: the {asked.split} part of {config.data.name} is empty")


def source_of(config: RunConfig, asked: EvaluationConfig) -> DataSource:
    """The data that an entry is measured on: those of its run, for other options would split the items otherwise."""
    options: dict[str, Any] = {**config.data.options, **asked.data_options}
    return DataSource(name=config.data.name, root=config.data.root, options=options)
