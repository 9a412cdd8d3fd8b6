"""Train, export and measure one entry of a comparison, from wherever it was left."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cmmulti.comparison.budget import steps_of
from cmmulti.comparison.check import source_of
from cmmulti.comparison.plan import Cell, Entry
from cmmulti.comparison.schema import TEACHER
from cmmulti.comparison.state import Places, State, begun_otherwise, changed
from cmmulti.config import RunConfig, read_yaml, to_yaml
from cmmulti.errors import UserError, users_fault
from cmmulti.evaluation.evaluate import evaluate
from cmmulti.evaluation.generation import TEACHER_STEPS, THEIR_OWN
from cmmulti.evaluation.request import Request
from cmmulti.files import replacing
from cmmulti.pipeline import Pipeline
from cmmulti.threads import threads
from cmmulti.training.callbacks.cost import COST, read
from cmmulti.training.export import export, read_run
from cmmulti.training.folder import CONFIG
from cmmulti.training.run import train

TEACHER_EVALUATIONS = 2 * TEACHER_STEPS - 1
"""What the teacher's row costs; a task's sampler spends one evaluation a step."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """Why an entry has no figures. ``bug``: nothing that the user could have done; its traceback is kept."""

    reason: str
    bug: bool


def done(places: Places, cell: Cell, entry: Entry) -> bool:
    """Whether nothing is left to do for an entry."""
    state = places.state(entry.cell, entry.method)
    whole = state.failure is None and places.trained(entry) and places.measured(entry.cell, entry.method, entry.evaluation)
    return whole and not changed(places, cell, entry)


def trained_parent(places: Places, cell: Cell, entry: Entry) -> Path | str | None:
    """Where the model lies that an entry is made from; None where it is made from nothing, or that is yet to be trained."""
    parent = cell.parent_of(entry)
    if not isinstance(parent, Entry):
        return parent
    return places.model(parent) if places.trained(parent) and not changed(places, cell, parent) else None


def work(places: Places, cell: Cell, entry: Entry, command: str, tell: Tell) -> Failure | None:
    """Do what is left of an entry. Returns why it failed, None where it did not; the others are not concerned.

    What another process began meanwhile with another config is left as it is.
    """
    if what := changed(places, cell, entry):
        return _failure(places, entry, UserError(begun_otherwise(what)), tell)
    state = places.state(entry.cell, entry.method)
    state = state.model_copy(update={"identity": entry.identity(cell), "failure": None})
    failure = None
    try:
        if not places.trained(entry):
            state = _train(places, cell, entry, state, command, tell)
        elif state.seconds is None:  # its state was removed; the run still knows
            state = state.model_copy(update=_cost(places, entry))
        if not places.measured(entry.cell, entry.method, entry.evaluation):
            # Figures that are half replaced are not those of the former evaluation.
            state = state.model_copy(update={"evaluation": None})
            places.save(entry.cell, entry.method, state)
            _measure(places, entry, command, tell)
            state = state.model_copy(update={"evaluation": entry.evaluation.model_dump(mode="json")})
    except Exception as error:  # one entry's failure, a bug included, must not cost the others
        failure = _failure(places, entry, error, tell)
        state = state.model_copy(update={"failure": failure.reason})
    places.save(entry.cell, entry.method, state)
    return failure


def teacher_measured(places: Places, cell: Cell) -> bool:
    """Whether the figures of a teacher that was not trained here are those that are asked for."""
    return places.measured(cell.name, TEACHER, cell.evaluation)


def measure_teacher(places: Places, cell: Cell, command: str, tell: Tell) -> Failure | None:
    """Figures of a teacher that was not trained here. Returns why there are none."""
    state, asked, failure = places.state(cell.name, TEACHER), _figures_of(cell), None
    state = state.model_copy(update={"identity": {"teacher": cell.teacher}, "evaluation": None, "failure": None})
    places.save(cell.name, TEACHER, state)
    try:
        _evaluate(places, asked, str(cell.teacher), cell.methods[0].config(str(cell.teacher)), command, tell)
        state = state.model_copy(update={"evaluation": cell.evaluation.model_dump(mode="json")})
    except Exception as error:
        failure = _failure(places, asked, error, tell)
        state = state.model_copy(update={"failure": failure.reason})
    places.save(cell.name, TEACHER, state)
    return failure


def _figures_of(cell: Cell) -> Entry:
    """A teacher that is there already, as an entry of which only figures are wanted."""
    return Entry(cell.name, TEACHER, cell.methods[0].values, None, cell.evaluation)


def _train(places: Places, cell: Cell, entry: Entry, state: State, command: str, tell: Tell) -> State:
    if entry.home != cell.name:
        return _share(places, cell, entry, state)
    parent = trained_parent(places, cell, entry)
    if entry.parent is not None and parent is None:
        raise UserError(f"{cell.name}/{entry.parent}, which it is made from, has no model")
    run = places.run(entry)
    if entry.budget is not None and entry.budget.minutes is not None and state.steps is None:
        scratch = run.with_name(f".{run.name}-trial")
        state = state.model_copy(update={"steps": steps_of(entry.config(parent), entry.budget.minutes, scratch)})
        tell(f"{entry.name}: {entry.budget.told} are {state.steps} steps")
    config = entry.config(parent, state.steps)
    if places.state(entry.cell, entry.method).identity:
        _found_again(run, config)
    state = state.model_copy(update={"steps": config.trainer.max_steps, "batch_size": entry.here(config).data.batch_size})
    places.save(entry.cell, entry.method, state)
    tell(f"{entry.name}: {config.trainer.max_steps} steps")
    train(config, run, resume=True, command=command)
    state = state.model_copy(update=_cost(places, entry))
    places.save(entry.cell, entry.method, state)
    export(run, places.model(entry))
    return state


def _found_again(run: Path, config: RunConfig) -> None:
    """Tell a run where what it is made from lies now: the same models, though ``--out`` may be spelled otherwise."""
    if not (run / CONFIG).is_file():
        return
    stored, now = read_yaml(run / CONFIG), {"init": config.init, "teacher": config.teacher}
    if stored != (moved := {**stored, **now}):
        with replacing(run / CONFIG) as part:
            part.write_text(to_yaml(moved), encoding="utf-8")


def _cost(places: Places, entry: Entry) -> dict[str, Any]:
    """What a state tells of a whole run: its steps, what they cost, and what can be compared with others'."""
    run = places.run(entry)
    config, record = read_run(run)
    steps = config.trainer.max_steps
    return {
        "steps": steps,
        "batch_size": entry.here(config).data.batch_size,
        "seconds": next((seconds for step, seconds in reversed(read(run / COST)) if step <= steps), None),
        "clock": "cpu" if "CPU" in record.device else "wall",
        "parameters": record.parameters,
        "examples": record.examples,
    }


def _share(places: Places, cell: Cell, entry: Entry, state: State) -> State:
    """A further cell of a joint model: exported from the run in its first cell, whose cost is said again."""
    home = replace(entry, cell=entry.home)
    if not places.trained(home) or changed(places, cell, home):
        raise UserError(f"{home.name}, which it is part of, has no model")
    export(places.run(entry), places.model(entry), modality=entry.cell)
    return state.model_copy(update=_cost(places, entry))


def _measure(places: Places, entry: Entry, command: str, tell: Tell) -> None:
    config = entry.here(read_run(places.run(entry))[0])
    _evaluate(places, entry, str(places.model(entry)), config, command, tell)


def _evaluate(places: Places, entry: Entry, model: str, config: RunConfig, command: str, tell: Tell) -> None:
    """Figures as ``cmmulti evaluate`` makes them; those of a denoiser at 35 evaluations too.

    A teacher's samples are measured there alone: in a few steps they are noise. Tasks start near their answer, and there a
    teacher may be as good as its students.
    """
    asked, steps = entry.evaluation, list(entry.evaluation.steps)
    pipeline = Pipeline.from_pretrained(model, _device(config))
    if entry.method == TEACHER and pipeline.model.role != "teacher":
        raise UserError(f"{model}: a {pipeline.model.role} model; expected a denoising teacher")
    if pipeline.model.role == "teacher" and pipeline.config.sampler is None:  # a student of few steps names its sampler
        best = THEIR_OWN.teacher_steps(pipeline) if asked.task is None else TEACHER_EVALUATIONS
        alone = entry.method == TEACHER and asked.task is None
        steps = [best] if alone else [*steps, best]
    request = Request(
        pipeline=pipeline,
        model=entry.name,
        data=config.data.root or Path(os.environ.get("CMMULTI_DATA") or "."),
        out=places.figures(entry.cell, entry.method),
        dataset=config.data.name,
        data_option=[f"{key}={json.dumps(value)}" for key, value in source_of(config, asked).options.items()],
        split=asked.split,
        n=asked.n,
        steps=steps,
        seed=asked.seed,
        task=asked.task,
        options=asked.options,
        classifier_steps=asked.classifier_steps,
        overwrite=True,
        command=command,
    )
    with threads(config.trainer.threads):  # those of every training: seconds must compare
        evaluate(request, lambda line: tell(f"{entry.name}: {line}"))


def _device(config: RunConfig) -> str:
    return "cuda" if torch.cuda.is_available() and config.trainer.accelerator in ("auto", "gpu") else "cpu"


def _failure(places: Places, entry: Entry, error: Exception, tell: Tell) -> Failure:
    """One line for the table, told at once. The traceback of a bug is kept in a file."""
    reason = str(error) if isinstance(error, UserError) else users_fault(error)
    bug = reason is None
    if reason is None:
        log = places.state_file(entry.cell, entry.method).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
        reason = f"{type(error).__name__}: {error}; the traceback is in {log.relative_to(places.out)}"
    reason = " ".join(reason.split())
    tell(f"{entry.name}: failed: {reason}")
    return Failure(reason, bug)
