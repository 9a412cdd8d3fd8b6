"""Keep the power-function averages every so often, so that other widths can be made of them after the run."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import Trainer

from cmmulti.training import snapshots
from cmmulti.training.callbacks.base import AfterStep
from cmmulti.training.module import TrainingModule
from cmmulti.training.sharding import whole


class Snapshots(AfterStep):
    """``snapshots/step-NNNNNNNN.safetensors`` in the run's folder, ``ema.snapshots`` of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def begin(self, trainer: Trainer, module: TrainingModule) -> None:
        if trainer.is_global_zero:
            snapshots.remove_later(self.folder, module.step)

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        config = module.config
        if not snapshots.is_due(module.step, config.trainer.max_steps, config.ema.snapshots):
            return
        if not (trainer.is_global_zero or module.sharded):
            return
        averages = {name: whole(module.ema.weights(name)) for name in snapshots.kept(module.ema.profiles)}
        if trainer.is_global_zero:
            names = [name for name, _ in module.model.network.named_parameters()]
            snapshots.write(self.folder, module.step, names, averages)
