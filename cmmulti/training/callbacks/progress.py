"""Where the run is, how fast it goes, and how long it will take: a bar on a terminal, lines in a file."""

from __future__ import annotations

import sys

from pytorch_lightning import Trainer
from tqdm import tqdm

from cmmulti.training.callbacks.base import AfterStep, is_due
from cmmulti.training.callbacks.log import Log, items_per_step
from cmmulti.training.callbacks.validation import Validation, in_words
from cmmulti.training.module import TrainingModule


class Progress(AfterStep):
    """Steps, loss, items per second, time left and quality, on the first process's standard error."""

    def __init__(self, log: Log, validation: Validation) -> None:
        super().__init__()
        self.log_rows, self.validation = log, validation
        self.bar: tqdm[None] | None = None

    def begin(self, trainer: Trainer, module: TrainingModule) -> None:
        if trainer.is_global_zero and sys.stderr.isatty():
            self.bar = tqdm(total=module.config.trainer.max_steps, initial=module.step, unit="step", dynamic_ncols=True)

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        if not trainer.is_global_zero:
            return
        row = self.log_rows.latest if is_due(module, module.config.log.every_steps) else None
        if module.stage_message:
            self._say(f"step {module.step}: {module.stage_message}")
            module.stage_message = ""
        if self.bar is not None:
            self.bar.update()
            if row:
                self.bar.set_postfix_str(f"loss {row['loss']:.4g}, {row['items_per_second']:.0f} items/s")
        elif row:
            total = module.config.trainer.max_steps
            left = (total - module.step) * items_per_step(module.config) / row["items_per_second"]
            self._say(
                f"step {module.step}/{total}  loss {row['loss']:.4g}  {row['items_per_second']:.0f} items/s  "
                f"{clock(left)} left"
            )
        if self.validation.latest.get("step") == module.step:
            self._say(f"step {module.step}: {in_words(self.validation.latest)}")

    def on_fit_end(self, *args: object) -> None:
        self._close()

    def on_exception(self, *args: object) -> None:
        self._close()

    def _say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def clock(seconds: float) -> str:
    """``h:mm:ss``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
