"""End a run between two steps when it is told to (SIGTERM), with everything kept."""

from __future__ import annotations

import signal
import threading

import torch
from pytorch_lightning import LightningModule, Trainer

from cmmulti.training.callbacks.base import AfterStep
from cmmulti.training.module import TrainingModule


class Stop(AfterStep):
    """SIGTERM to any process ends all of them after the same step, of which ``module.stopping`` tells the other callbacks.

    Lightning's own handler speaks to the other processes from inside the signal, across whatever they are exchanging just
    then: they hang or abort. This one only takes note, and the processes agree when a step is over.
    """

    def __init__(self) -> None:
        super().__init__()
        self._noted = False

    def begin(self, trainer: Trainer, module: TrainingModule) -> None:
        self._noted = trainer.received_sigterm
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)  # Lightning puts back what there was before

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        module.stopping = self._noted
        if trainer.world_size > 1:
            noted = torch.tensor(float(self._noted), device=module.device)
            torch.distributed.all_reduce(noted, torch.distributed.ReduceOp.MAX)
            module.stopping = bool(noted)
        trainer.should_stop = module.stopping

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Launchers kill the others once a process has ended, and the first may still be saving.
        trainer.strategy.barrier()

    def _note(self, *_: object) -> None:
        self._noted = True
