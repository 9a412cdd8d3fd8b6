"""An outcome on disk: its items, ``results.json``, pictures and a page."""

from __future__ import annotations

from pathlib import Path

from cmmulti.media import Media
from cmmulti.pipeline.outcome import Outcome
from cmmulti.report.folder import ResultFolder
from cmmulti.report.results import Output, Results
from cmmulti.report.sections import Section

SHOWN = 64
"""Most samples on a page; the others are in the folder."""
EXPLAINED = 4
"""Most results of a task that are shown with their input, baselines and error maps."""


def write_outcome(outcome: Outcome, folder: Path, command: str, overwrite: bool) -> Path:
    """Write everything; the folder appears whole or not at all. Returns it.

    Raises:
        UserError: the folder cannot be written, or holds files and ``overwrite`` is not set.
    """
    pipeline, stem = outcome.pipeline, "sample" if outcome.assignment is None else "result"
    with ResultFolder(folder, overwrite) as target:
        outputs = []
        for item, seed, label in zip(outcome.items, outcome.seeds, outcome.labels, strict=True):
            file = pipeline.save(item, target.path / f"{stem}-{seed}{pipeline.modality.extension}")
            outputs.append(Output(file=file.relative_to(target.path).as_posix(), seed=seed, label=label))
        together, media = outcome.summary
        summed = [pipeline.save(i, target.path / f"{name}{pipeline.modality.extension}") for name, i in together.items()]
        results = Results(
            command=command,
            model=pipeline.config.name,
            task=outcome.task,
            steps=len(outcome.levels),
            nfe=outcome.nfe,
            seconds=round(outcome.seconds, 4),
            metrics=dict(outcome.metrics),
            baselines={name: dict(figures) for name, figures in outcome.baselines.items()},
            outputs=outputs,
            together=[file.relative_to(target.path).as_posix() for file in summed],
            measurement=_measurement(outcome, target.path),
            notes=outcome.notes,
            levels=list(outcome.levels),
            sampler=outcome.sampler,
            device=str(pipeline.model.device),
        )
        several = [Section(f"{len(outcome.items)} answers together", media=media)] if media else []
        target.write(results, [*several, *sections(outcome)])
    return folder


def sections(outcome: Outcome) -> list[Section]:
    """What the page shows: samples side by side, or each result beside its input, baselines and truth."""
    pipeline = outcome.pipeline
    if outcome.assignment is None:
        shown = list(zip(outcome.seeds, outcome.labels, outcome.items, strict=True))[:SHOWN]
        media = pipeline.render({_caption(outcome, seed, label): item for seed, label, item in shown})
        return [Section("Samples", _more(len(outcome.items) - len(shown)), media)]
    reference = "truth" if outcome.truth is not None else None
    found = []
    for number, seed in enumerate(outcome.seeds[:EXPLAINED], 1):
        media_of: list[Media] = pipeline.render(outcome.panels(number - 1), reference, outcome.mark)
        text = _more(len(outcome.seeds) - EXPLAINED) if number == EXPLAINED else ""
        found.append(Section(f"Result, seed {seed}", text, media_of))
    return found


def _more(count: int) -> str:
    return f"{count} more {'is' if count == 1 else 'are'} in the folder." if count > 0 else ""


def _caption(outcome: Outcome, seed: int, label: int | None) -> str:
    classes = outcome.pipeline.config.classes
    return f"seed {seed}" if label is None or not classes else f"seed {seed}, {classes[label]}"


def _measurement(outcome: Outcome, folder: Path) -> str | None:
    if outcome.assignment is None or outcome.assignment.measurement is None:
        return None
    return outcome.assignment.measurement(folder).relative_to(folder).as_posix()
