"""Pipeline: the object that users hold. A model, its modality, and the settings that go with both."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cmmulti.config.checking import checked
from cmmulti.contexts.scale import Context
from cmmulti.media import Media
from cmmulti.modality import Assignment, Item, Modality
from cmmulti.model import Model
from cmmulti.pipeline.arguments import device_here, plain_levels, whole
from cmmulti.pipeline.folder import PipelineConfig, read_model, write_folder
from cmmulti.pipeline.generating import Generating
from cmmulti.pipeline.outcome import Outcome
from cmmulti.pipeline.solving import solved
from cmmulti.samplers.base import Callback


class Pipeline(Generating):
    """Generate, edit and reconstruct with one model.

    Threads may share it, but that ``nfe``, which the model counts, is then of all of them together.

    Args:
        model: network and parameterization. modality: the adapter with the model's settings.
        config: what ``config.json`` holds. card: the model card, Markdown with a YAML head.

    Example:
        >>> pipe = Pipeline.from_pretrained("digits")
        >>> outcome = pipe.sample(n=16, steps=2, seed=0, label=7)
        >>> outcome.save("digits-out")
    """

    def __init__(self, model: Model, modality: Modality, config: PipelineConfig, card: str = "") -> None:
        self.model, self.modality, self.config, self.card = model, modality, config, card

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, device: str | torch.device = "cpu") -> Pipeline:
        """Load a folder written by :meth:`save_pretrained`, or a model shipped under a name, in evaluation mode.

        Raises:
            UserError: nothing of that name or folder; a file is missing, damaged or of another architecture; there is no
                such device.
        """
        there = device_here(device)
        model, modality, config, card = read_model(name_or_folder)
        return cls(model.to(there).eval(), modality, config, card)

    def save_pretrained(self, folder: str | Path, half: bool = False) -> Path:
        """Write ``config.json``, ``model.safetensors`` (float16 where ``half``) and the card ``README.md``.

        Raises:
            UserError: the folder cannot be written, or holds files that belong to no model; ``config`` describes another
                model than this one.
        """
        return write_folder(Path(folder), self.model, self.config, self.card, half)

    def to(self, device: str | torch.device) -> Pipeline:
        """Move the model to a device; returns the pipeline itself. Raises UserError where there is no such device."""
        self.model.to(device_here(device))
        return self

    def edit(self, source: str | Path | Item, task: str, options: Mapping[str, Any] | None = None, **how: Any) -> Outcome:
        """Change a part of an item and leave the rest as it is. See :meth:`solve` for the arguments."""
        return self.solve("edit", source, task, options, **how)

    def reconstruct(
        self, source: str | Path | Item, task: str, options: Mapping[str, Any] | None = None, **how: Any
    ) -> Outcome:
        """Find the item behind measurements. See :meth:`solve` for the arguments."""
        return self.solve("reconstruct", source, task, options, **how)

    def solve(
        self,
        verb: str,
        source: str | Path | Item,
        task: str,
        options: Mapping[str, Any] | None = None,
        *,
        steps: int = 4,
        seed: int = 0,
        samples: int = 1,
        reference: str | Path | Item | None = None,
        levels: Sequence[float] | None = None,
        label: int | None = None,
        context: Context | None = None,
        sampler: str = "multistep",
        guidance: float | None = None,
        callback: Callback | None = None,
    ) -> Outcome:
        """One task on one input, ``samples`` times, from seeds ``seed .. seed + samples - 1``.

        Args:
            verb: ``edit`` or ``reconstruct``. source: a file, or an item of the adapter's own type, as
                ``modality.load(Path(...))`` and samples are; None for a task that needs no input. A bare array is none: it
                has no rate, range or geometry.
            task: its name in ``modality.tasks``. options: its own, the fields of its ``Options``, which checks them.
            steps: noise levels visited. levels: in place of ``steps``, the levels themselves, decreasing.
            reference: the right answer, for figures only.
            label, context, guidance, sampler: as for :meth:`sample`, but that the sampler is ``multistep`` by default.
            callback: told the estimate after each evaluation (:class:`~cmmulti.samplers.base.StepInfo`).

        Raises:
            UserError: no such task, an input or option that does not fit, or what the model cannot do.
        """
        samples, seed = whole("samples", samples, 1), whole("seed", seed)
        job = self.modality.task(task, verb)
        checked_options = checked(job.Options, dict(options or {}), f"task {task}")
        source = Path(source) if isinstance(source, str) else source
        assignment = job.prepare(self.modality, source, checked_options, self.model)
        truth = assignment.truth if reference is None else self._item(reference)
        if reference is not None and assignment.baselines:
            # A reference that does not fit is refused before anything is sampled; the first baseline is the simplest.
            simplest = next(iter(assignment.baselines.values()))
            self.modality.metrics(simplest(), truth, assignment.mark)
        walked = self._walked(assignment, steps, levels)
        seeds = list(range(seed, seed + samples))
        chosen = assignment.label if label is None else label
        walker = self.sampler(sampler)
        began = time.perf_counter()
        items, nfe = [], 0
        for s in seeds:
            parts = [s] * assignment.shape[0]
            contexts = self.contexts_for(parts, context)
            condition = self.condition(self.labels_for(parts, [chosen] * len(parts)), guidance, contexts)
            item, nfe = solved(self.model, walker, assignment, s, walked, condition, callback)
            items.append(item)
        seconds = time.perf_counter() - began
        return Outcome(
            modality=self.modality,
            config=self.config,
            device=str(self.model.device),
            task=task,
            items=items,
            seeds=seeds,
            labels=[chosen] * samples,
            levels=walked,
            nfe=nfe,
            seconds=seconds,
            sampler=sampler,
            assignment=assignment,
            truth=truth,
        )

    def save(self, item: Item, path: str | Path) -> Path:
        """Write one item; returns the file written."""
        return self.modality.save(item, Path(path))

    def render(self, panels: Mapping[str, Item], reference: str | None = None, mark: Any = None) -> list[Media]:
        """Pictures and players of items, side by side."""
        return self.modality.render(panels, reference, mark)

    def _walked(self, assignment: Assignment, steps: int, levels: Sequence[float] | None) -> list[float]:
        if levels is not None:
            return plain_levels(levels)
        steps = whole("steps", steps, 1)
        return self.levels(steps) if assignment.levels is None else plain_levels(assignment.levels(steps))

    def _item(self, source: str | Path | Item) -> Item:
        return self.modality.load(Path(source)) if isinstance(source, (str, Path)) else source
