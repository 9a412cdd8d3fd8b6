"""Guidance weights as an input of the student: one network for every strength of the teacher's guidance."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.randomness import TrainingRandomness


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] <= value[1]:
        raise ValueError("expected two weights, 0 <= low <= high")
    return value


Guidance = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""The range that weights are drawn from; 1 is no guidance."""


def with_guidance(
    condition: Condition, weights: tuple[float, float], randomness: TrainingRandomness, x0: Tensor
) -> Condition:
    """The condition with a weight per sample, uniform on ``weights``, for the teacher to follow and the student to hear."""
    low, high = weights
    return replace(condition, guidance=low + (high - low) * randomness.uniform(len(x0), x0.device, "guidance"))
