"""Where a run begins: at step 0, or where its newest whole checkpoint was taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer

from cmmulti.training import checkpoint
from cmmulti.training.module import TrainingModule
from cmmulti.training.quiet import say


class Begin(Callback):
    """Reads the checkpoint when it is made, and restores it once the optimiser exists.

    Args:
        folder: of the run to go on with; None for a fresh one. ``step`` is where it begins.
    """

    def __init__(self, folder: Path | None) -> None:
        self.step = 0
        self._found: tuple[Path, dict[str, Any]] | None = None
        if folder is None:
            return
        self._found = checkpoint.newest(folder, say)
        if self._found is None:
            say(f"{folder}: no checkpoint; starting at step 0")
        else:
            self.step = self._found[1]["step"]
            say(f"{self._found[0]}: resuming at step {self.step}")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._found is not None:
            path, state = self._found
            checkpoint.restore(cast(TrainingModule, pl_module), trainer.optimizers[0], state, path)
            self._found = None
