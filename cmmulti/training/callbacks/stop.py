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
    then: they hang or abort. This one only takes note. What was noted up to a step is agreed on while the next one is
    computed, between the processors and not the devices, so that no step waits for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._noted = False
        self._group: torch.distributed.ProcessGroup | None = None
        self._asked: tuple[torch.Tensor, torch.distributed.Work] | None = None

    def begin(self, trainer: Trainer, module: TrainingModule) -> None:
        self._noted, self._asked = trainer.received_sigterm, None
        self._group = torch.distributed.new_group(backend="gloo") if trainer.world_size > 1 else None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)  # Lightning puts back what there was before

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        module.stopping = self._noted if self._group is None else self._answer()
        trainer.should_stop = module.stopping

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._answer_of(self._asked)
        # Launchers kill the others once a process has ended, and the first may still be saving.
        trainer.strategy.barrier()

    def _answer(self) -> bool:
        """Whether any process had noted anything when the step before this was over; ask the same of this one."""
        asked, noted = self._asked, torch.tensor(float(self._noted))
        work = torch.distributed.all_reduce(noted, torch.distributed.ReduceOp.MAX, self._group, async_op=True)
        self._asked = noted, work
        return self._answer_of(asked)

    @staticmethod
    def _answer_of(asked: tuple[torch.Tensor, torch.distributed.Work] | None) -> bool:
        if asked is None:
            return False
        asked[1].wait()
        return bool(asked[0])

    def _note(self, *_: object) -> None:
        self._noted = True
