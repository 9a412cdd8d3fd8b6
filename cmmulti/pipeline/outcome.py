"""What a pipeline answers: the items, what they cost, how good they are, and the folder that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from cmmulti.media import Media
from cmmulti.modality import Assignment, Item, Modality
from cmmulti.pipeline.config import PipelineConfig
from cmmulti.report.folder import ResultFolder
from cmmulti.report.results import Output, Results
from cmmulti.report.sections import Section

SHOWN = 64
"""Most samples on a page; the others are in the folder."""
EXPLAINED = 4
"""Most results of a task that are shown with their input, baselines and error maps."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of one call.

    That of a task holds functions (its baselines), which cannot be pickled: what goes to another process is its ``items``.

    Args:
        modality, config: the adapter and the description of the model that made them. device: where it ran.
        task: ``sample``, ``inpaint``, ... items, seeds, labels: in seed order.
        levels: noise levels visited. sampler: its name. nfe: network evaluations per sample.
        seconds: wall time of all samples, files excluded.
        assignment: what was asked, for edits and reconstructions. truth: the right answer where it is known.
    """

    modality: Modality
    config: PipelineConfig
    device: str
    task: str
    items: Sequence[Item]
    seeds: Sequence[int]
    labels: Sequence[int | None]
    levels: Sequence[float]
    nfe: int
    seconds: float
    sampler: str
    assignment: Assignment | None = None
    truth: Item | None = None

    @property
    def mark(self) -> Any:
        """The task's constraint, such as a hole; None for samples and for tasks without one."""
        return None if self.assignment is None else self.assignment.mark

    @property
    def notes(self) -> list[str]:
        """What the task has to say about its answer."""
        return [] if self.assignment is None else list(self.assignment.notes)

    @cached_property
    def baseline_items(self) -> dict[str, Item]:
        """The simpler answers by name, computed once."""
        return {} if self.assignment is None else {name: make() for name, make in self.assignment.baselines.items()}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Figures against the truth, averaged over the samples; empty where it is not known."""
        if self.truth is None:
            return {}
        each = [self.modality.metrics(item, self.truth, self.mark) for item in self.items]
        return {name: fmean(m[name] for m in each) for name in each[0]}

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """The same figures for each baseline, and for the mean of several answers where the modality has one."""
        if self.truth is None:
            return {}
        modality, compared = self.modality, dict(self.baseline_items)
        if (mean := self.summary[0].get("mean")) is not None:
            compared[f"mean of {len(self.items)} answers"] = mean
        return {name: modality.metrics(item, self.truth, self.mark) for name, item in compared.items()}

    @cached_property
    def summary(self) -> tuple[Mapping[str, Item], list[Media]]:
        """What several answers to one task say together, and pictures of it; nothing for samples and single answers."""
        if self.assignment is None or len(self.items) < 2:
            return {}, []
        return self.modality.summary(self.items)

    def panels(self, number: int = 0) -> dict[str, Item]:
        """What belongs side by side with result ``number``: input, baselines, result, truth."""
        shown: dict[str, Item] = {} if self.assignment is None else dict(self.assignment.panels)
        shown |= self.baseline_items
        shown["result"] = self.items[number]
        if self.truth is not None:
            shown["truth"] = self.truth
        return shown

    def save(self, folder: str | Path, command: str = "", overwrite: bool = False) -> Path:
        """Write the items, ``results.json``, pictures and ``index.html``; the folder appears whole or not at all.

        Raises:
            UserError: the folder cannot be written, or holds files and ``overwrite`` is not set.
        """
        stem = "sample" if self.assignment is None else "result"
        extension = self.modality.extension
        with ResultFolder(Path(folder), overwrite) as target:
            outputs = []
            for item, seed, label in zip(self.items, self.seeds, self.labels, strict=True):
                file = self.modality.save(item, target.path / f"{stem}-{seed}{extension}")
                outputs.append(Output(file=file.relative_to(target.path).as_posix(), seed=seed, label=label))
            together, media = self.summary
            summed = [self.modality.save(i, target.path / f"{name}{extension}") for name, i in together.items()]
            results = Results(
                command=command,
                model=self.config.name,
                task=self.task,
                steps=len(self.levels),
                nfe=self.nfe,
                seconds=round(self.seconds, 4),
                metrics=dict(self.metrics),
                baselines={name: dict(figures) for name, figures in self.baselines.items()},
                outputs=outputs,
                together=[file.relative_to(target.path).as_posix() for file in summed],
                measurement=_measurement(self, target.path),
                notes=self.notes,
                levels=list(self.levels),
                sampler=self.sampler,
                device=self.device,
            )
            several = [Section(f"{len(self.items)} answers together", media=media)] if media else []
            target.write(results, [*several, *sections(self)])
        return Path(folder)


def sections(outcome: Outcome) -> list[Section]:
    """What the page shows: samples side by side, or each result beside its input, baselines and truth."""
    if outcome.assignment is None:
        shown = list(zip(outcome.seeds, outcome.labels, outcome.items, strict=True))[:SHOWN]
        media = outcome.modality.render({_caption(outcome, seed, label): item for seed, label, item in shown})
        return [Section("Samples", _more(len(outcome.items) - len(shown)), media)]
    reference = "truth" if outcome.truth is not None else None
    found = []
    for number, seed in enumerate(outcome.seeds[:EXPLAINED], 1):
        media_of: list[Media] = outcome.modality.render(outcome.panels(number - 1), reference, outcome.mark)
        text = _more(len(outcome.seeds) - EXPLAINED) if number == EXPLAINED else ""
        found.append(Section(f"Result, seed {seed}", text, media_of))
    return found


def _more(count: int) -> str:
    return f"{count} more {'is' if count == 1 else 'are'} in the folder." if count > 0 else ""


def _caption(outcome: Outcome, seed: int, label: int | None) -> str:
    classes = outcome.config.classes
    return f"seed {seed}" if label is None or not classes else f"seed {seed}, {classes[label]}"


def _measurement(outcome: Outcome, folder: Path) -> str | None:
    if outcome.assignment is None or outcome.assignment.measurement is None:
        return None
    return outcome.assignment.measurement(folder).relative_to(folder).as_posix()
