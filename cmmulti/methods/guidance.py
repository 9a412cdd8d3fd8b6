"""Guided teachers: at one weight, or at weights that are an input of the student, which then serves every strength."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.randomness import TrainingRandomness


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] <= value[1]:
        raise ValueError("expected two weights, 0 <= low <= high")
    return value


Guidance = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""The range that weights are drawn from; 1 is no guidance."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""One weight of the teacher's ``D_null + w (D_label - D_null)``, which the student learns to give without such an input."""


def with_guidance(
    condition: Condition, weights: tuple[float, float], randomness: TrainingRandomness, x0: Tensor
) -> Condition:
    """The condition with a weight per sample, uniform on ``weights``, for the teacher to follow and the student to take."""
    low, high = weights
    return replace(condition, guidance=low + (high - low) * randomness.uniform(len(x0), x0.device, "guidance"))


def students_condition(
    condition: Condition, guidance: float | tuple[float, float] | None, randomness: TrainingRandomness, x0: Tensor
) -> Condition:
    """The student's condition: with a drawn weight where ``guidance`` is a range, else as it is."""
    return with_guidance(condition, guidance, randomness, x0) if isinstance(guidance, tuple) else condition


def teachers_condition(condition: Condition, guidance: float | tuple[float, float] | None, x0: Tensor) -> Condition:
    """The teacher's condition, made of the student's: with the one weight, or the drawn ones that are there already."""
    if guidance is None or isinstance(guidance, tuple):
        return condition
    return replace(condition, guidance=torch.full((len(x0),), guidance, device=x0.device))
