"""Steps without a finite gradient: they are counted by noise level, told with their samples, and too many end the run.

The module has already set such a gradient to zero (:meth:`TrainingModule.configure_gradient_clipping`); weights and
averages stay finite whatever comes. Here the host learns of it, and only now and then: to look is to wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.training.callbacks.base import AfterStep, is_kept
from cmmulti.training.callbacks.log_file import EDGES, RANGES
from cmmulti.training.module import TrainingModule
from cmmulti.training.order import Order
from cmmulti.training.quiet import say

EVERY = 50
"""Steps between two looks, at the most."""

Batches = list[tuple[Tensor, Tensor]]
"""(sigma, per-sample loss) of each accumulated batch of a step."""


class _Kept(NamedTuple):
    step: int
    zeroed: Tensor
    batches: Batches


class FiniteGuard(AfterStep):
    """Looks every :data:`EVERY` steps, and before anything is logged or saved.

    A step counts once, shared out evenly over its samples whose loss is not finite, on whatever process, or over all its
    samples where every loss is finite and the fault arose on the way back. Flags come from gradients that all processes
    share, so that all of them decide alike.
    """

    def __init__(self, order: Order, names: Sequence[str]) -> None:
        super().__init__()
        self.order, self.names = order, names
        self._kept: list[_Kept] = []

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        config = module.config
        batches = module.recent[-config.trainer.accumulate :]
        self._kept.append(_Kept(module.step - 1, module.zeroed, batches))
        if any(is_kept(module, every) for every in (EVERY, config.log.every_steps, config.checkpoint.every_steps)):
            self._look(trainer, module)

    def _look(self, trainer: Trainer, module: TrainingModule) -> None:
        kept, self._kept = self._kept, []
        flags = torch.stack([k.zeroed for k in kept]).tolist()
        bad = [k for k, zeroed in zip(kept, flags, strict=True) if zeroed]
        if not bad:
            return
        counts = torch.stack([_counts(k.batches) for k in bad])
        if trainer.world_size > 1:
            torch.distributed.all_reduce(counts)
        for culprits, present in counts.tolist():
            blamed = culprits if sum(culprits) else present
            for i, n in enumerate(blamed):
                module.blamed[i] += n / sum(blamed)
        module.nonfinite += len(bad)
        told, limit = self._told(bad[-1], trainer.global_rank), module.config.trainer.nonfinite
        if module.nonfinite > limit:
            raise UserError(
                f"{told}; {module.nonfinite} such steps, more than trainer.nonfinite = {limit} allows "
                f"(since the last log row at sigma {_where(module.blamed)}); what was saved is finite"
            )
        say(f"{told}; left out, {module.nonfinite} of at most {limit} such steps")

    def _told(self, kept: _Kept, rank: int) -> str:
        """Which step, which samples at which noise levels."""
        step, _, batches = kept
        culprits = []
        for micro, (sigma, loss) in enumerate(batches):
            places = self.order.batch(step, micro, rank)
            for i in torch.nonzero(~torch.isfinite(loss)).flatten().tolist():
                culprits.append(f"{self.names[places[i % len(places)].example]} at sigma = {float(sigma[i]):.4g}")
        if culprits:
            more = f" and {len(culprits) - 5} more" if len(culprits) > 5 else ""
            return f"the loss of step {step} is not finite: {', '.join(culprits[:5])}{more}"
        sigmas = torch.cat([sigma for sigma, _ in batches])
        names = [self.names[p.example] for p in self.order.batch(step, 0, rank)[:3]]
        return (
            f"the gradient of step {step} is not finite: sigma {float(sigmas.min()):.4g} to {float(sigmas.max()):.4g}, "
            f"samples {', '.join(map(str, names))}, ...; lower optimizer.learning_rate or set trainer.clip"
        )


def _counts(batches: Batches) -> Tensor:
    """Samples per bin of the noise level: (2, bins), those whose loss is not finite and all."""
    sigma = torch.cat([s for s, _ in batches]).float()
    bad = ~torch.cat([loss for _, loss in batches]).isfinite()
    where = torch.bucketize(sigma, torch.tensor(EDGES, device=sigma.device))
    counts = torch.zeros(2, len(RANGES), device=sigma.device)
    for row, share in zip(counts, (bad, torch.ones_like(bad)), strict=True):
        row.index_add_(0, where, share.float())
    return counts


def _where(blamed: Sequence[float]) -> str:
    return ", ".join(f"{r.replace('_', ' to ')}: {n:.3g}" for r, n in zip(RANGES, blamed, strict=True) if n)
