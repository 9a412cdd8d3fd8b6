"""From minutes of compute to steps, by a short trial."""

from __future__ import annotations

import shutil
from pathlib import Path

from cmmulti.config import RunConfig
from cmmulti.training.callbacks.cost import COST, read
from cmmulti.training.run import train

SHARE, LEAST, MOST = 0.02, 8.0, 60.0
"""Of the budget that the trial looks at, within these seconds; as many go before, while caches fill and memory grows."""
FIRST = 8
"""Steps that the shortest trial looks at; every further one at up to ``GROWTH`` times as many as the one before."""
GROWTH = 8


def steps_of(config: RunConfig, minutes: float, scratch: Path) -> int:
    """How many steps of this run fit into ``minutes`` of its own compute.

    The first steps of a process can take twice as long as the later ones. So trials are repeated, each longer than the
    one before, until the steps that were looked at took as long as was asked for.

    Args:
        config: resolved; its number of steps is not looked at. scratch: a folder for the trial, removed afterwards.
    """
    wanted = min(max(SHARE * 60 * minutes, LEAST), MOST)
    steps, seconds = FIRST, _per_step(config, FIRST, scratch)
    # A little short of it is no reason for another trial.
    while steps * seconds < 0.8 * wanted and steps * seconds < 60 * minutes:
        steps = min(GROWTH * steps, max(steps + 1, round(wanted / seconds)))
        seconds = _per_step(config, steps, scratch)
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
