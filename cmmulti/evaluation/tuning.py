"""Settings of simpler answers, chosen on validation items: a comparison with an untuned baseline shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from cmmulti.config.text import parse_yaml
from cmmulti.errors import UserError, unknown_name
from cmmulti.evaluation.generation import THEIR_OWN, Sampling
from cmmulti.evaluation.task import how_to_solve, task_called
from cmmulti.modality import Item, TrainingSet
from cmmulti.pipeline import Outcome, Pipeline

RESULT = "result"


def tuned(
    pipeline: Pipeline,
    data: TrainingSet,
    indices: Sequence[int],
    task: str,
    options: Mapping[str, Any],
    line: str,
    steps: int,
    seed: int,
    tell: Callable[[str], None],
    how: Sampling = THEIR_OWN,
) -> tuple[str, Any]:
    """The option and value of ``NAME:KEY=V1,V2,...`` with the highest mean PSNR of answer NAME over ``indices``.

    Args:
        data: validation items. options: the task's other options. steps: of the model, where NAME is ``result``.
        how: its sampler and guidance.

    Raises:
        UserError: ``line`` is of another form, the task has no such answer or refuses every case, or the modality has no
            PSNR.
    """
    name, key, values = parsed(line)
    verb = task_called(pipeline, task).verb
    steps = steps if name == RESULT else 1  # a baseline does not look at the samples: one step is enough to have it
    scores = []
    for value in values:
        found, refused = [], ""
        for i in indices:
            item, own = data.case(i), how_to_solve(pipeline, how, data, i)
            try:
                outcome = pipeline.solve(verb, item, task, {**options, key: value}, steps=steps, seed=seed, **own)
            except UserError as error:  # the case is left out
                refused = refused or f", the first: {error}"
                continue
            found.append(_psnr(outcome, item, task, name))
        if not found:
            raise UserError(f"--tune {line!r}: every validation case was refused{refused}")
        scores.append(fmean(found))
        tell(f"{name}, {key} = {value}: {scores[-1]:.2f} dB on {len(found)} validation cases")
    return key, values[scores.index(max(scores))]


def parsed(line: str) -> tuple[str, str, list[Any]]:
    """NAME, KEY and the values of ``NAME:KEY=V1,V2,...``, which are read as those of ``--set`` are.

    Raises:
        UserError: it is of another form.
    """
    name, colon, rest = line.partition(":")
    key, equals, text = rest.partition("=")
    if not (name and colon and key and equals and text):
        raise UserError(f"--tune {line!r}: expected NAME:KEY=V1,V2,...")
    try:
        return name, key.replace("-", "_"), [parse_yaml(v, "--tune") for v in text.split(",")]
    except UserError as error:
        raise UserError(f"--tune {line!r}: expected plain values with commas between them, without brackets") from error


def _psnr(outcome: Outcome, item: Item, task: str, name: str) -> float:
    """In dB, of the answer called ``name`` to one case; the case ``item`` itself is right where nothing was simulated."""
    modality = outcome.modality
    truth = item if outcome.truth is None else outcome.truth
    if name == RESULT:
        answer = outcome.items[0]
    else:
        makers = {} if outcome.assignment is None else outcome.assignment.baselines
        if name not in makers:
            raise unknown_name(f"baseline of task {task}", name, makers)
        answer = makers[name]()
    found = modality.metrics(answer, truth, outcome.mark)
    if "psnr" not in found:
        measured = ", ".join(found) or "nothing"
        raise UserError(f"--tune: answers are chosen by their PSNR; modality {modality.name} measures {measured}")
    return found["psnr"]
