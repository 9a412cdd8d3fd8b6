"""Make everything that a run needs, try one step, and write nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
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
from cmmulti.training.network_check import check_distance
from cmmulti.training.order import Place
from cmmulti.training.run import record_of
from cmmulti.training.strategy import strategy_of

FEW, GROWTH = 4, 8
"""Examples whose gradient is taken first, and how many times more then. A batch that is meant for a GPU takes a CPU many
minutes."""
QUICK = 10.0
"""Seconds that a gradient may be expected to take at most."""


def dry_run(config: RunConfig, budget: str | None = None, resumed: Path | None = None) -> str:
    """Take the gradient of the first examples, of each modality, on the CPU, and tell what the run would be.

    Args:
        budget: how long the run will be, in words; None tells the steps of its config. resumed: folder of the run that
            would be gone on with; its checkpoints are not looked at.

    Raises:
        UserError: whatever would stop the run before its first step or at it; the loss is not finite.
    """
    strategy_of(config)
    if resumed is not None:
        folder.check(resumed, resume=True)
        config = folder.same_run(resumed, config)
    parts = build(config)
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
    shown = f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"
    return (
        f"{len(parts.examples)} examples of shape {'x'.join(map(str, parts.modality.shape))}, "
        f"{sum(map(len, parts.classes.values()))} classes, sigma_data {config.sigma_data:g}; "
        f"{parameter_count(module.model)} parameters; first loss {loss:.4g}, "
        f"a step about {shown} s on this CPU; {budget or f'{config.trainer.max_steps} steps'}"
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
