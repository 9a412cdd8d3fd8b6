"""Make everything that a run needs, try one step, and write nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.threads import threads
from cmmulti.training import folder
from cmmulti.training.build import Parts, build, order_of, parameter_count
from cmmulti.training.data import BadBatch, collate
from cmmulti.training.module import TrainingModule
from cmmulti.training.network_check import check_distance, unheard_classes
from cmmulti.training.order import Place
from cmmulti.training.quiet import say
from cmmulti.training.run import record_of
from cmmulti.training.strategy import strategy_of

FEW, GROWTH = 4, 8
"""Examples whose gradient is taken first, and how many times more then. A batch that is meant for a GPU takes a CPU many
minutes."""
QUICK = 10.0
"""Seconds that a gradient may be expected to take at most."""


@dataclass(frozen=True)
class Trial:
    """What a run would be.

    Args:
        examples: of its first modality, of ``shape``; classes: of all. seconds_a_step: about, on this CPU. steps: of its
            config.
    """

    examples: int
    shape: tuple[int, ...]
    classes: int
    sigma_data: float
    parameters: int
    first_loss: float
    seconds_a_step: float
    steps: int

    def told(self, budget: str | None = None) -> str:
        """In words; ``budget``: how long the run will be, None for the steps of its config."""
        seconds = self.seconds_a_step
        shown = f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"
        return (
            f"{self.examples} examples of shape {'x'.join(map(str, self.shape))}, "
            f"{self.classes} classes, sigma_data {self.sigma_data:g}; "
            f"{self.parameters} parameters; first loss {self.first_loss:.4g}, "
            f"a step about {shown} s on this CPU; {budget or f'{self.steps} steps'}"
        )


def dry_run(config: RunConfig, resumed: Path | None = None) -> str:
    """:func:`trial` in words."""
    return trial(config, resumed).told()


def trial(config: RunConfig, resumed: Path | None = None) -> Trial:
    """Take the gradient of the first examples, of each modality, on the CPU, and find what the run would be.

    Args:
        resumed: folder of the run that would be gone on with; its checkpoints are not looked at.

    Raises:
        UserError: whatever would stop the run before its first step or at it; the loss is not finite.
    """
    strategy_of(config)
    asked = config
    if resumed is not None:
        folder.check(resumed, resume=True)
        config = folder.same_run(resumed, config)
    parts = build(config)
    if told := unheard_classes(asked, parts.modality):
        say(told)
    if resumed is not None:
        folder.same_material(resumed, record_of(parts, command=""))
    config = parts.config
    module = TrainingModule(config, parts.model, parts.method, parts.teacher)
    for share in parts.shares:
        check_distance(parts.method, share.modality)
    order = order_of(parts)
    with threads(config.trainer.threads):  # two that wait for each other on a busy machine are slower than one
        # Each modality has one of the first steps.
        tried = [_batch(module, parts, order.batch(step)) for step in range(len(parts.shares))]
    loss, seconds = tried[0][0], fmean(each for _, each in tried) * config.trainer.accumulate * config.processes
    return Trial(
        examples=len(parts.examples),
        shape=tuple(parts.modality.shape),
        classes=sum(map(len, parts.classes.values())),
        sigma_data=float(config.sigma_data or 0.0),
        parameters=parameter_count(module.model),
        first_loss=loss,
        seconds_a_step=seconds,
        steps=config.trainer.max_steps,
    )


def _batch(module: TrainingModule, parts: Parts, places: Sequence[Place]) -> tuple[float, float]:
    """The loss of a batch or of its first examples, and the seconds that the gradient of all takes."""
    count = min(FEW, len(places))
    while True:
        loss, seconds = _gradient(module, parts, places[:count])
        if seconds < QUICK:  # what is set up for a size of batch may take longer than its gradient
            loss, seconds = _gradient(module, parts, places[:count])
        # Small networks take no longer for more: a few examples alone say little of a batch.
        if count == len(places) or seconds >= QUICK / GROWTH:
            return loss, seconds * len(places) / count
        count = min(GROWTH * count, len(places))


def _gradient(module: TrainingModule, parts: Parts, places: Sequence[Place]) -> tuple[float, float]:
    """The loss of some examples, and the seconds that its gradient took."""
    batch = collate(parts.examples.__getitems__(list(places)))
    if isinstance(batch, BadBatch):
        raise UserError(batch.reason)
    began = time.perf_counter()
    loss = module.loss(batch)
    loss.value.backward()
    value = float(loss.value.detach())
    if not math.isfinite(value):
        bad = torch.nonzero(~loss.per_sample.isfinite()).flatten().tolist()
        names = [parts.examples.source.names[i] for i in batch.example.tolist()]
        where = [f"{names[i % len(names)]} at sigma = {float(loss.sigma[i]):.4g}" for i in bad[:FEW]]
        raise UserError(f"the first loss is {value}, expected a finite one: {', '.join(where or names[:FEW])}")
    return value, time.perf_counter() - began
