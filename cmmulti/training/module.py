"""One optimiser step, as Lightning calls it: batch, loss, clip, step, averages, the method's own changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from cmmulti.conditioning import Condition
from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.methods.base import Budget, Loss, Method, Progress
from cmmulti.model import Model
from cmmulti.nn.unet import CHANNELS_LAST
from cmmulti.randomness import TrainingRandomness, key, seed_global
from cmmulti.training.callbacks.log_file import RANGES
from cmmulti.training.data import BadBatch, Batch
from cmmulti.training.ema import EMA, HalfLife, Power, Profile
from cmmulti.training.schedule import learning_rate
from cmmulti.training.sharding import gathered, local, shard_training

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "radam": torch.optim.RAdam,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
TOGETHER = 0.5
"""Share of the dropped contexts whose label is dropped with them: at 10 %, some 5 % each of none, label alone, context
alone."""


class TrainingModule(LightningModule):
    """A student, its method, its averages and its counters.

    ``step`` counts optimiser steps from the start of the run, across resumptions; everything random is keyed by it.
    ``recent`` holds the (sigma, per-sample loss) of the batches since the last log row, ``extras`` what else the method
    told of them, ``grad_norm`` the latest norm and ``zeroed`` whether that gradient was not finite and set to zero.
    ``nonfinite`` counts the steps known to have been so since the run began; ``blamed`` shares those since the last log row
    out over the bins of the noise level.
    """

    def __init__(self, config: RunConfig, model: Model, method: Method, teacher: Model | None) -> None:
        super().__init__()
        self.config, self.model, self.method, self.teacher = config, model, method, teacher
        trainer, data = config.trainer, config.data
        if trainer.channels_last:
            order_weights(model)
        method.setup(model, teacher, Budget(trainer.max_steps, data.batch_size))
        self.ema = EMA(model.network.parameters(), ema_profiles(config))
        self.step = 0
        self.stage_start = 0
        self.conditional = bool(config.network.settings.get("classes", 0))
        self.recent: list[tuple[Tensor, Tensor]] = []
        self.extras: dict[str, list[Tensor | float]] = {}
        self.grad_norm = torch.zeros(())
        self.zeroed = torch.zeros((), dtype=torch.bool)
        self.nonfinite = 0
        self.blamed = [0.0] * len(RANGES)
        self.stage_message = ""
        self.stopping = False

    @property
    def sharded(self) -> bool:
        """Whether the weights are spread over processes, so that all of them must gather together."""
        return self.config.trainer.strategy == "fsdp"

    def configure_model(self) -> None:
        """Shard what is trained, once, where the strategy says so; the averages are sharded with it."""
        if self.sharded and not any(isinstance(p, DTensor) for p in self.model.parameters()):
            assert self.device_mesh is not None
            shard_training(self.model.network, self.method, self.device_mesh["data_parallel"])
            self.ema = EMA(self.model.network.parameters(), self.ema.profiles)

    @property
    def progress(self) -> Progress:
        """Of the step that is next."""
        budget = self.config.trainer.max_steps
        return Progress(self.step, self.step * self.config.data.batch_size, min(self.step / budget, 1 - 1e-9))

    @property
    def rate(self) -> float:
        """Learning rate of the step that is next."""
        return learning_rate(self.config.optimizer, self.step, self.config.trainer.max_steps, self.stage_start)

    def loss(self, batch: Batch, rank: int = 0, micro: int = 0) -> Loss:
        """The method's loss of one batch, labels dropped as configured."""
        randomness = TrainingRandomness(self.config.trainer.seed, self.step, rank, micro)
        return self.method.loss(self.model, batch.x, self.condition(batch, randomness), self.progress, randomness)

    def condition(self, batch: Batch, randomness: TrainingRandomness) -> Condition:
        """Labels and contexts of a batch, some of them forgotten, and its modality where the model knows several."""
        label = batch.label if self.conditional else None
        condition = Condition(label=label, context=batch.context, modality=batch.modality)
        share = self.config.label_dropout
        if not share:
            return condition
        draw = partial(randomness.uniform, len(batch.x), batch.x.device)
        drop = draw("label-dropout") < share
        if label is None or batch.context is None:
            return condition.dropped(drop)
        # Guidance needs samples without either, and who gives one alone needs the others (arXiv 2211.09800, section 3.2.1).
        apart = draw("context-dropout") < share
        return condition.dropped(drop, torch.where(draw("dropped-together") < TOGETHER, drop, apart))

    def training_step(self, batch: Batch | BadBatch, batch_idx: int) -> Tensor:
        if isinstance(batch, BadBatch):
            raise UserError(batch.reason)
        micro = batch_idx % self.config.trainer.accumulate
        # Methods and networks draw from keyed generators; one that draws from the global one resumes exactly all the same.
        seed_global(key(self.config.trainer.seed, self.step, self.global_rank, micro, "global"), self.device)
        loss = self.loss(batch, self.global_rank, micro)
        self.recent.append((loss.sigma, loss.per_sample))
        for name, extra in loss.extras.items():
            self.extras.setdefault(name, []).append(extra)
        value: Tensor = loss.value
        return value

    def configure_optimizers(self) -> Optimizer:
        settings = self.config.optimizer
        kind = OPTIMIZERS[settings.name or "radam"]
        parameters = [p for p in self.method.trainable(self.model) if p.requires_grad]
        betas = settings.betas or (0.9, 0.999)
        how: dict[str, Any] = {"foreach": settings.implementation == "foreach"}
        if settings.implementation == "fused":
            how = {"fused": True}
        return kind(  # type: ignore[call-arg]
            parameters, lr=self.rate, betas=betas, eps=settings.eps, weight_decay=settings.weight_decay, **how
        )

    @torch.no_grad()
    def configure_gradient_clipping(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        """Clip the gradient's norm over all parameters and keep it for the log; all of it is 0 where it is not finite.

        Called when accumulated batches and processes have been summed up. Nothing is read back from the device. A partial
        gradient would point anywhere, so that a single NaN leaves the whole step out; momentum and averages go on.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.grad_norm = gathered(torch.nn.utils.get_total_norm(gradients, foreach=True))
        self.zeroed = ~self.grad_norm.isfinite()
        if limit := self.config.trainer.clip:
            parameters = (p for group in optimizer.param_groups for p in group["params"])
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, self.grad_norm, foreach=True)
        for gradient in gradients:
            local(gradient).masked_fill_(self.zeroed, 0)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        rate = self.rate
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step(closure=optimizer_closure)
        self.step += 1
        self.ema.update(self.step)
        event = self.method.after_step(self.model, self.progress)
        if event is not None:
            self.stage_message = event.message
            if event.reset_optimizer:
                getattr(optimizer, "optimizer", optimizer).state.clear()
                self.stage_start = self.step

    def on_fit_start(self) -> None:
        self.ema.to(self.device)


@torch.no_grad()
def order_weights(model: nn.Module) -> None:
    """Convolution weights in the order of memory that their inputs have; averages and moments made later follow them."""
    for parameter in model.parameters():
        if (order := CHANNELS_LAST.get(parameter.dim() - 2)) is not None:
            parameter.data = parameter.data.contiguous(memory_format=order)


def ema_profiles(config: RunConfig) -> dict[str, Profile]:
    """The averages of a resolved config, by name."""
    budget, ema = config.trainer.max_steps, config.ema
    ramp = 0.0 if config.init else ema.ramp
    found: dict[str, Profile] = {f"half-life-{h:g}": HalfLife(h * budget, ramp) for h in ema.half_lives or ()}
    found |= {f"sigma-rel-{s:g}": Power(s) for s in ema.sigma_rel or ()}
    return found
