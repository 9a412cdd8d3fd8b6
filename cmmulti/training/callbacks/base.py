"""Callbacks that count optimiser steps of the whole run, not batches of this process."""

from __future__ import annotations

from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer

from cmmulti.training.module import TrainingModule


class AfterStep(Callback):
    """Calls :meth:`after_step` once per optimiser step, on every process."""

    def __init__(self) -> None:
        self._last = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = cast(TrainingModule, pl_module).step
        self.begin(trainer, cast(TrainingModule, pl_module))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        module = cast(TrainingModule, pl_module)
        if module.step != self._last:
            self._last = module.step
            self.after_step(trainer, module)

    def begin(self, trainer: Trainer, module: TrainingModule) -> None:
        """Before the first step of this process."""

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        """After optimiser step ``module.step``."""


def is_due(module: TrainingModule, every: int) -> bool:
    """Every ``every`` steps and after the last one."""
    return module.step % every == 0 or module.step == module.config.trainer.max_steps


def is_kept(module: TrainingModule, every: int) -> bool:
    """Whether a run can go on from this step: where that is due, and after the last step before it is made to stop."""
    return module.stopping or is_due(module, every)
