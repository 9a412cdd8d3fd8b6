"""How good an edit or a reconstruction is, over held-out items, beside its simpler answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from cmmulti.conditioning import NULL_LABEL
from cmmulti.errors import UserError, unknown_name
from cmmulti.evaluation.features import ClassifierFeatures
from cmmulti.evaluation.generation import THEIR_OWN, Sampling
from cmmulti.evaluation.statistics import Estimate, mean_interval
from cmmulti.modality import Item, Task, TrainingSet
from cmmulti.pipeline import Outcome, Pipeline

FEATURE_DISTANCE = "feature_distance"


@dataclass
class Scores:
    """Figures of one way to answer, an item at a time."""

    name: str
    steps: int | None = None
    nfe: int | None = None
    seconds: float = 0.0
    each: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            self.each.setdefault(key, []).append(float(value))

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Means over the items, with intervals."""
        return {key: mean_interval(values) for key, values in self.each.items()}

    def row(self) -> dict[str, Any]:
        """Plain values, for JSON; ``seconds`` per item."""
        n = max((len(v) for v in self.each.values()), default=0)
        cost = {} if self.steps is None else {"steps": self.steps, "nfe": self.nfe, "seconds": self.seconds / max(n, 1)}
        return {"name": self.name, "n": n, **cost, "metrics": {k: list(v) for k, v in self.metrics.items()}}


@dataclass(frozen=True)
class TaskRun:
    """A task with its options over held-out items: every figure's rows, an example to show, and notes of the task."""

    rows: list[Scores]
    example: Outcome
    notes: list[str]


def task_called(pipeline: Pipeline, name: str) -> Task:
    """The task of that name, whichever verb it belongs to; an unknown one is refused with those that exist."""
    tasks = pipeline.modality.tasks
    if name not in tasks:
        raise unknown_name(f"{pipeline.modality.name} task", name, tasks)
    return tasks[name]


def evaluate_task(
    models: Mapping[str, Pipeline],
    data: TrainingSet,
    indices: Sequence[int],
    task: str,
    options: Mapping[str, Any],
    steps: Sequence[int],
    seed: int,
    features: ClassifierFeatures | None,
    how: Sampling = THEIR_OWN,
) -> TaskRun:
    """Answer ``task`` on ``data.case(i)`` for every index, with every model and number of steps.

    Args:
        models: name -> pipeline; the first makes the baselines and lends its modality. A teacher beside it visits as
            many levels, and so costs as many evaluations. options: of the task.
        features: of a classifier, for the distance between result and truth as it sees them; None to leave it out.
        how: samplers and guidance; where a model is guided it is told the item's class.

    The truth is the task's own where it simulates a measurement, and the item where it edits.
    """
    first = next(iter(models.values()))
    verb = task_called(first, task).verb
    named = {name: how.of(pipeline).named(name) for name, pipeline in models.items()}
    rows = {(name, s): Scores(f"{named[name]}, {s} step{'s' * (s > 1)}", s) for name in models for s in steps}
    baselines: dict[str, Scores] = {}
    example: Outcome | None = None
    refused: list[str] = []
    warm: set[str] = set()
    for number, index in enumerate(indices):
        item = data.case(index)
        for (name, s), scores in rows.items():
            try:
                own = how_to_solve(models[name], how, data, index)
                solve = partial(models[name].solve, verb, item, task, options, steps=s, seed=seed + number, **own)
                if name not in warm:  # what a first call sets up is no row's time
                    solve()
                    warm.add(name)
                outcome = solve()
            except UserError as error:  # a clip shorter than the hole, a scan with other voxels
                refused.append(f"{data.cases[index]}: {error}")
                break
            truth = item if outcome.truth is None else outcome.truth
            scores.nfe, scores.seconds = outcome.nfe, scores.seconds + outcome.seconds
            scores.add(figures(first, outcome.items[0], truth, outcome.mark, features))
            if (name, s) == next(iter(rows)):
                for simple, answer in outcome.baseline_items.items():
                    row = baselines.setdefault(simple, Scores(simple))
                    row.add(figures(first, answer, truth, outcome.mark, features))
            if example is None and s == max(steps):
                example = outcome
    if example is None:
        raise UserError(f"task {task}: nothing to evaluate it on" + (f"; {refused[0]}" if refused else ""))
    notes = [*example.notes, *_label_notes(models, how)]
    if refused:
        notes.append(f"{len(refused)} of {len(indices)} cases were refused, the first: {refused[0]}")
    return TaskRun([*rows.values(), *baselines.values()], example, notes)


def _label_notes(models: Mapping[str, Pipeline], how: Sampling) -> list[str]:
    """Which models were told the class of each item."""
    notes = ["Where a model is guided it was told the class of each item."] if how.guidance is not None else []
    if any(map(needs_labels, models.values())):
        notes.append("A model that knows no items without a class was told the class of each.")
    return notes


def how_to_solve(pipeline: Pipeline, how: Sampling, data: TrainingSet, case: int) -> dict[str, Any]:
    """Arguments of :meth:`Pipeline.solve` that make a model answer one case as asked."""
    own = how.of(pipeline)
    told: dict[str, Any] = {} if own.sampler is None else {"sampler": own.sampler}
    if own.guidance is not None:
        told["guidance"] = own.guidance
    if own.guidance is not None or needs_labels(pipeline):
        label = int(data.labels[case]) if len(data.cases) == len(data.labels) else NULL_LABEL
        told["label"] = None if label == NULL_LABEL else label
    return told


def needs_labels(pipeline: Pipeline) -> bool:
    """Whether a model must be told the class of each item: it never learned items without one."""
    return bool(pipeline.config.classes) and not pipeline.config.unconditional


def figures(
    pipeline: Pipeline, result: Item, truth: Item, mark: Any, features: ClassifierFeatures | None
) -> dict[str, float]:
    """The modality's metrics, and the distance in features where they are given."""
    values = dict(pipeline.modality.metrics(result, truth, mark))
    if features is not None:
        a, b = (pipeline.modality.encode_marked(item, mark) for item in (result, truth))
        values[FEATURE_DISTANCE] = float(features.distance(a, b).mean())
    return values


def chosen_cases(data: TrainingSet, n: int, seed: int) -> list[int]:
    """At most ``n`` numbers of cases, spread by a seeded shuffle and then put in order."""
    order = torch.randperm(len(data.cases), generator=torch.Generator().manual_seed(seed))
    return sorted(int(i) for i in order[:n])
