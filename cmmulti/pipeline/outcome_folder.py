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
            measurement=_measurement(outcome, target.path),
            notes=outcome.notes,
            levels=list(outcome.levels),
            sampler=outcome.sampler,
            device=str(pipeline.model.device),
        )
        target.write(results, sections(outcome))
    return folder


def sections(outcome: Outcome) -> list[Section]:
    """What the page shows: samples side by side, or each result beside its input, baselines and truth."""
    pipeline = outcome.pipeline
    if outcome.assignment is None:
        shown = list(zip(outcome.seeds, outcome.labels, outcome.items, strict=True))[:SHOWN]
        media = pipeline.render({_caption(outcome, seed, label): item for seed, label, item in shown})
        more = len(outcome.items) - len(shown)
        return [Section("Samples", f"{more} more are in the folder." if more > 0 else "", media)]
    reference = "truth" if outcome.truth is not None else None
    found = []
    for number, seed in enumerate(outcome.seeds[:EXPLAINED]):
        media_of: list[Media] = pipeline.render(outcome.panels(number), reference, outcome.mark)
        found.append(Section(f"Result, seed {seed}", media=media_of))
    return found


def _caption(outcome: Outcome, seed: int, label: int | None) -> str:
    classes = outcome.pipeline.config.classes
    return f"seed {seed}" if label is None or not classes else f"seed {seed}, {classes[label]}"


def _measurement(outcome: Outcome, folder: Path) -> str | None:
    if outcome.assignment is None or outcome.assignment.measurement is None:
        return None
    return outcome.assignment.measurement(folder).relative_to(folder).as_posix()
