"""Save the run every so often and at its end."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities.exceptions import SIGTERMException

from cmmulti.training import checkpoint
from cmmulti.training.callbacks.base import AfterStep, is_due
from cmmulti.training.module import TrainingModule


class Checkpoints(AfterStep):
    """``step-NNNNNNNN.ckpt`` in the run's folder, written by the first process."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A polite kill (SIGTERM) arrives between steps: nothing is lost."""
        module = cast(TrainingModule, pl_module)
        path = self.folder / f"step-{module.step:08d}.ckpt"
        if not isinstance(exception, SIGTERMException) or module.sharded or not trainer.is_global_zero or path.exists():
            return
        if all(bool(torch.isfinite(p).all()) for p in module.model.parameters()):
            checkpoint.save(checkpoint.state_of(module, trainer.optimizers[0]), self.folder, module.config.checkpoint.keep)

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        settings = module.config.checkpoint
        if not is_due(module, settings.every_steps) or not (trainer.is_global_zero or module.sharded):
            return
        state = checkpoint.state_of(module, trainer.optimizers[0])
        if trainer.is_global_zero:
            checkpoint.save(state, self.folder, settings.keep)
