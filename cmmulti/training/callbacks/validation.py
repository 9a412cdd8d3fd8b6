"""``validation.csv``: figures of quality on held-out items every so often. They draw nothing from the run's randomness."""

from __future__ import annotations

import math
from pathlib import Path

from pytorch_lightning import Trainer

from cmmulti.errors import UserError
from cmmulti.training.build import Parts, data_source
from cmmulti.training.callbacks.average import Average
from cmmulti.training.callbacks.base import AfterStep, is_due
from cmmulti.training.callbacks.log import Log
from cmmulti.training.callbacks.log_file import RANGES, LogFile
from cmmulti.training.data import Examples
from cmmulti.training.module import TrainingModule
from cmmulti.training.quality import HeldOut, errors, generated, held_out, mean_of
from cmmulti.training.quiet import say

VALIDATION = "validation.csv"
COLUMNS = ("step", "error", "raw_error", *(f"error_{r}" for r in RANGES), "spread", "noise", "distance")
"""``error``: mean over the ranges, of the average that will be exported; ``raw_error``: of the weights themselves. The
others are those of :mod:`cmmulti.training.quality`."""


class Validation(AfterStep):
    """A row before the first step, every ``validation.every_steps`` and at the end; ``latest`` is the newest."""

    def __init__(self, folder: Path, parts: Parts, average: Average, log: Log) -> None:
        super().__init__()
        self.file = LogFile(folder / VALIDATION, COLUMNS)
        self.parts, self.average, self.log_rows = parts, average, log
        self.latest: dict[str, float] = {}
        self._items: HeldOut | None = None

    def begin(self, trainer: Trainer, module: TrainingModule) -> None:
        if not module.config.validation.every_steps:
            return
        if trainer.is_global_zero:
            self._items = self._held_out(module)
            if self._items is not None:
                self.file.begin(module.step or -1)  # the row of step 0 is made again
        if module.step == 0:
            self._measure(trainer, module)

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        every = module.config.validation.every_steps
        if every and is_due(module, every):
            self._measure(trainer, module)

    def _measure(self, trainer: Trainer, module: TrainingModule) -> None:
        if not (trainer.is_global_zero or module.sharded):
            return
        profiles = dict.fromkeys((module.config.ema.export or "raw", "raw"))
        found: dict[str, float] = {}
        for profile in profiles:
            # All processes of a sharded run gather the weights; the first alone looks at them.
            model = self.average.of(module, profile)
            if self._items is None:
                continue
            mine = [e for e in module.method.exported(module.model) if e.model is module.model]
            low, high = (mine[0].sigma_low, mine[0].sigma_high) if mine else (0.0, model.sigma_max)
            by_range = errors(model, self._items, module.conditional, module.config.sigma_data or 0.5, low, high)
            if profile != "raw" or len(profiles) == 1:
                levels = module.method.sampling_levels(model.sigma_max)
                steps = levels[min(levels)] if levels else None
                found |= {**by_range, "error": mean_of(by_range)}
                found |= generated(model, self._items, module.conditional, steps)
            else:
                found["raw_error"] = mean_of(by_range)
        if found:
            self._keep({"step": module.step, **found})

    def _keep(self, row: dict[str, float]) -> None:
        self.latest = row
        self.file.append(row)
        if self.log_rows.writer is not None:
            for name, value in row.items():
                if name != "step" and math.isfinite(value):
                    self.log_rows.writer.add_scalar(f"validation/{name}", value, int(row["step"]))

    def _held_out(self, module: TrainingModule) -> HeldOut | None:
        """None, with a word about it, where the data hold nothing back."""
        config, mine = module.config, self.parts.examples
        if config.joint:
            say("a model of several modalities: quality is not measured while it trains")
            return None
        try:
            source = self.parts.modality.dataset(data_source(config), "val")
            contexts = None if self.parts.contexts is None else self.parts.contexts.of(source)
            examples = Examples(source, config.trainer.seed, mine.shape, skip=False, contexts=contexts)
            items = held_out(examples, config.validation.n)
            return items._replace(guidance=self.average.config.plain_guidance)
        except UserError as error:
            say(f"no held-out items, so quality is not measured: {error}")
            return None


def in_words(row: dict[str, float]) -> str:
    """A row in words, for the progress of a run."""
    raw = f" (raw weights {row['raw_error']:.3g})" if "raw_error" in row else ""
    return f"held-out error {row['error']:.3g}{raw}; samples: spread {row['spread']:.2f}, noise {row['noise']:.2f}"
