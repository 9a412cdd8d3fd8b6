"""Make everything that a run needs, try one step, and write nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.training.build import Parts, build, order_of, parameter_count
from cmmulti.training.data import BadBatch, collate
from cmmulti.training.module import TrainingModule
from cmmulti.training.order import Place

FEW = 4
"""Examples whose gradient is taken first; that of the whole batch follows where it is quick. One that is meant for a GPU
takes a CPU many minutes."""
QUICK = 10.0
"""Seconds."""


def dry_run(config: RunConfig, budget: str | None = None) -> str:
    """Take the gradient of the first examples on the CPU, and tell what the run would be.

    Args:
        budget: how long the run will be, in words; None tells the steps of its config.

    Raises:
        UserError: whatever would stop the run at its first step.
    """
    parts = build(config)
    config = parts.config
    module = TrainingModule(config, parts.model, parts.method, parts.teacher)
    places = order_of(parts).batch(0)
    loss, seconds = _gradient(module, parts, places[:FEW])
    of_all = seconds * len(places) / min(FEW, len(places))
    if len(places) > FEW and of_all < QUICK:
        loss, of_all = _gradient(module, parts, places)
    seconds = of_all * config.data.batch_size / len(places)
    shown = f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"
    return (
        f"{len(parts.examples)} examples of shape {'x'.join(map(str, parts.modality.shape))}, "
        f"{sum(map(len, parts.classes.values()))} classes, sigma_data {config.sigma_data:g}; "
        f"{parameter_count(module.model)} parameters; first loss {loss:.4g}, "
        f"a step about {shown} s on this CPU; {budget or f'{config.trainer.max_steps} steps'}"
    )


def _gradient(module: TrainingModule, parts: Parts, places: Sequence[Place]) -> tuple[float, float]:
    """The loss of some examples, and the seconds that its gradient took."""
    batch = collate(parts.examples.__getitems__(list(places)))
    if isinstance(batch, BadBatch):
        raise UserError(batch.reason)
    began = time.perf_counter()
    loss = module.loss(batch)
    loss.value.backward()
    return float(loss.value.detach()), time.perf_counter() - began
