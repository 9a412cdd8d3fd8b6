"""``cost.csv``: the compute that a run took up to each checkpoint, whatever else the machine was busy with."""

from __future__ import annotations

import time
from pathlib import Path

from pytorch_lightning import Trainer

from cmmulti.files import writing
from cmmulti.training.callbacks import log_file
from cmmulti.training.callbacks.base import AfterStep, is_kept
from cmmulti.training.module import TrainingModule

COST = "cost.csv"
HEAD = "step,seconds\n"


class Cost(AfterStep):
    """Seconds of CPU time of this process, all its threads together; on a GPU the wall time of its steps.

    Work that a killed run had done after its newest checkpoint is lost and is not counted: the row of a step is what
    that step's weights cost. Loading processes (``data.workers``) are not counted.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / COST
        self._rows: list[tuple[int, float]] = []
        self._spent, self._began = 0.0, 0.0

    def begin(self, trainer: Trainer, module: TrainingModule) -> None:
        self._rows = [row for row in read(self.path) if row[0] <= module.step]
        self._spent = self._rows[-1][1] if self._rows else 0.0
        self._began = clock(module)

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        if not is_kept(module, module.config.checkpoint.every_steps) or not trainer.is_global_zero:
            return
        self._rows.append((module.step, self._spent + clock(module) - self._began))
        text = HEAD + "".join(f"{step},{seconds:.3f}\n" for step, seconds in self._rows)
        with writing(self.path) as part:
            part.write_text(text, encoding="utf-8")


def clock(module: TrainingModule) -> float:
    """Seconds on the clock that a run is charged by."""
    # The processor's clock says nothing about a GPU; the guard has waited for the device at checkpoint steps.
    return time.process_time() if module.device.type == "cpu" else time.perf_counter()


def read(path: Path) -> list[tuple[int, float]]:
    """(step, seconds) of the whole rows of a ``cost.csv``; none where there is no such file."""
    return [(int(row["step"]), row["seconds"]) for row in log_file.read(path) if "seconds" in row]
