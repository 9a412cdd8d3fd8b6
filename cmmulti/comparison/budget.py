"""From minutes of compute to steps, by a short trial."""

from __future__ import annotations

import shutil
from pathlib import Path

from cmmulti.config import RunConfig
from cmmulti.training.callbacks.cost import COST, read
from cmmulti.training.run import train

SHORT, LONG = 8, 400
"""Steps that the first trial looks at, and most that the second does; as many go before, while caches fill."""
SECONDS = 8.0
"""Of compute that the second trial looks at, so that chance hardly matters."""


def steps_of(config: RunConfig, minutes: float, scratch: Path) -> int:
    """How many steps of this run fit into ``minutes`` of its own compute.

    Args:
        config: resolved; its number of steps is not looked at. scratch: a folder for the trial, removed afterwards.
    """
    seconds = _per_step(config, SHORT, scratch)
    more = min(LONG, round(SECONDS / seconds))
    if more > SHORT:
        seconds = _per_step(config, more, scratch)
    return max(1, round(60 * minutes / seconds))


def _per_step(config: RunConfig, steps: int, scratch: Path) -> float:
    shutil.rmtree(scratch, ignore_errors=True)
    trial = config.model_copy(
        update={
            "trainer": config.trainer.model_copy(update={"max_steps": 2 * steps}),
            "checkpoint": config.checkpoint.model_copy(update={"every_steps": steps, "keep": 1}),
            "preview": config.preview.model_copy(update={"every_steps": 0}),
            "log": config.log.model_copy(update={"tensorboard": False}),
        }
    )
    try:
        train(trial, scratch)
        rows = dict(read(scratch / COST))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return max((rows[2 * steps] - rows[steps]) / steps, 1e-6)
