"""Stop a run whose loss or gradient is no longer finite, before it is saved, and say where it happened."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pytorch_lightning import Trainer

from cmmulti.errors import UserError
from cmmulti.training.callbacks.base import AfterStep, is_due
from cmmulti.training.module import TrainingModule
from cmmulti.training.order import Order


class FiniteGuard(AfterStep):
    """Looks at the loss and gradient norm of every step.

    On a CPU after each step; on a GPU, where looking waits for the device, at log and checkpoint steps: the
    steps since then are kept and the first bad one is named.
    """

    def __init__(self, order: Order, names: Sequence[str]) -> None:
        super().__init__()
        self.order, self.names = order, names
        self._kept: list[tuple[int, torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]] = []

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        config = module.config
        batches = module.recent[-config.trainer.accumulate :]
        total = torch.stack([loss.sum() for _, loss in batches]).sum() + module.grad_norm
        self._kept.append((module.step - 1, total, batches))
        due = any(every and is_due(module, every) for every in (config.log.every_steps, config.checkpoint.every_steps))
        if module.device.type != "cpu" and not due:
            return
        kept, self._kept = self._kept, []
        if all(torch.isfinite(total) for _, total, _ in kept):
            return
        step, _, batches = next(k for k in kept if not torch.isfinite(k[1]))
        raise UserError(self._message(step, batches, trainer.global_rank))

    def _message(self, step: int, batches: list[tuple[torch.Tensor, torch.Tensor]], rank: int) -> str:
        """Which step, which samples at which noise levels."""
        culprits = []
        for micro, (sigma, loss) in enumerate(batches):
            places = self.order.batch(step, micro, rank)
            for i in torch.nonzero(~torch.isfinite(loss)).flatten().tolist():
                culprits.append(f"{self.names[places[i % len(places)].example]} at sigma = {float(sigma[i]):.4g}")
        if culprits:
            more = f" and {len(culprits) - 5} more" if len(culprits) > 5 else ""
            return f"the loss of step {step} is not finite: {', '.join(culprits[:5])}{more}; nothing was saved since"
        sigmas = torch.cat([sigma for sigma, _ in batches])
        names = [self.names[p.example] for p in self.order.batch(step, 0, rank)[:3]]
        return (
            f"the gradient of step {step} is not finite: sigma {float(sigmas.min()):.4g} to {float(sigmas.max()):.4g}, "
            f"samples {', '.join(map(str, names))}, ...; lower optimizer.learning_rate or set trainer.clip; "
            "nothing was saved since"
        )
