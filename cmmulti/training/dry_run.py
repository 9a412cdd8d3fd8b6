"""Make everything that a run needs, try one step, and write nothing."""

from __future__ import annotations

import time

from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.training.build import build, order_of, parameter_count
from cmmulti.training.data import BadBatch, collate
from cmmulti.training.module import TrainingModule


def dry_run(config: RunConfig) -> str:
    """Read one batch, take its gradient on the CPU, and tell what the run would be.

    Raises:
        UserError: whatever would stop the run at its first step.
    """
    parts = build(config)
    config = parts.config
    module = TrainingModule(config, parts.model, parts.method, parts.teacher)
    batch = collate(parts.examples.__getitems__(order_of(parts).batch(0)))
    if isinstance(batch, BadBatch):
        raise UserError(batch.reason)
    began = time.perf_counter()
    loss = module.loss(batch)
    loss.value.backward()
    seconds = (time.perf_counter() - began) * config.trainer.accumulate
    return (
        f"{len(parts.examples)} examples of shape {'x'.join(map(str, parts.modality.shape))}, "
        f"{sum(map(len, parts.classes.values()))} classes, sigma_data {config.sigma_data:g}; "
        f"{parameter_count(module.model)} parameters; first loss {float(loss.value.detach()):.4g}, "
        f"first step {seconds:.2f} s on the CPU; {config.trainer.max_steps} steps"
    )
