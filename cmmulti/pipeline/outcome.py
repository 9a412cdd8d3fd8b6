"""What a pipeline answers: the items, what they cost, how good they are, and the folder that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cmmulti.media import Media
from cmmulti.modality import Assignment, Item

if TYPE_CHECKING:
    from cmmulti.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class Outcome:
    """The results of one call.

    Args:
        task: ``sample``, ``inpaint``, ... items, seeds, labels: in seed order.
        levels: noise levels visited. sampler: its name. nfe: network evaluations per sample.
        seconds: wall time of all samples, files excluded.
        assignment: what was asked, for edits and reconstructions. truth: the right answer where it is known.
    """

    pipeline: Pipeline
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
        each = [self.pipeline.modality.metrics(item, self.truth, self.mark) for item in self.items]
        return {name: fmean(m[name] for m in each) for name in each[0]}

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """The same figures for each baseline, and for the mean of several answers where the modality has one."""
        if self.truth is None:
            return {}
        modality, compared = self.pipeline.modality, dict(self.baseline_items)
        if (mean := self.summary[0].get("mean")) is not None:
            compared[f"mean of {len(self.items)} answers"] = mean
        return {name: modality.metrics(item, self.truth, self.mark) for name, item in compared.items()}

    @cached_property
    def summary(self) -> tuple[Mapping[str, Item], list[Media]]:
        """What several answers to one task say together, and pictures of it; nothing for samples and single answers."""
        if self.assignment is None or len(self.items) < 2:
            return {}, []
        return self.pipeline.modality.summary(self.items)

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
        from cmmulti.pipeline.outcome_folder import write_outcome

        return write_outcome(self, Path(folder), command, overwrite)
