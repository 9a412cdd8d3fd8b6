"""The learning rate as a function of the step: no state to save."""

from __future__ import annotations

import math

from cmmulti.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, max_steps: int, stage_start: int = 0) -> float:
    """Rate of the optimiser step ``step`` (0 for the first).

    ``stage_start``: the step at which a method last restarted its schedule; warm-up and decay count from there. A decay
    begins once the warm-up is over: before, the rate would fall at once by what the decay had taken by then.
    """
    rate = config.learning_rate or 0.0
    done, budget = step - stage_start, max(max_steps - stage_start, 1)
    if done < config.warmup_steps:
        return rate * (done + 1) / (config.warmup_steps + 1)
    start = max(config.decay_start * budget, config.warmup_steps)
    if done <= start or config.decay == "constant":
        return rate
    if config.decay == "inverse-sqrt":
        return rate / math.sqrt(done / start)
    left = 1 - (done - start) / (budget - start)
    return rate * (left if config.decay == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))
