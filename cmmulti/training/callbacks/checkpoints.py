"""Save the run every so often, when it is told to stop and at its end."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import Trainer

from cmmulti.training import checkpoint
from cmmulti.training.callbacks.base import AfterStep, is_kept
from cmmulti.training.module import TrainingModule


class Checkpoints(AfterStep):
    """``step-NNNNNNNN.ckpt`` in the run's folder, written by the first process."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        settings = module.config.checkpoint
        if not is_kept(module, settings.every_steps) or not (trainer.is_global_zero or module.sharded):
            return
        state = checkpoint.state_of(module, trainer.optimizers[0])
        if trainer.is_global_zero:
            checkpoint.save(state, self.folder, settings.keep)
