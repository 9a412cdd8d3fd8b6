"""What the tasks share: reading their input, starting from a picture, and saving a simulated one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.noise import geometric
from cmmulti.operators.base import Identity
from cmmulti.problems.base import Problem, Solver, Step, StepResult
from modalities.image import files
from modalities.image.picture import Picture

MEASUREMENT = "measurement.png"
SIMULATED = "simulated: the input was made worse on purpose, so that the right answer is known"
FREEST, CLOSEST = 20.0, 0.2
"""Noise levels at which next to nothing and next to everything of a guide is left, on the model's scale of -1 to 1."""


def picture_of(source: Path | Picture) -> Picture:
    """The input of a task."""
    return files.load(source) if isinstance(source, Path) else source


def level_of(strength: float, sigma_max: float) -> float:
    """The noise level that lets a model change a guide by ``strength`` in 0..1, evenly in ``ln sigma``."""
    return min(CLOSEST * (FREEST / CLOSEST) ** strength, sigma_max)


def descending(first: float) -> Callable[[int], Sequence[float]]:
    """Levels from ``first`` down, evenly in ``ln sigma``: the further steps sharpen what the first has decided."""

    def levels(steps: int) -> Sequence[float]:
        if steps < 1:
            raise UserError(f"steps: expected at least 1, got {steps}")
        return geometric(steps, first, min(first / 4, 0.3))

    return levels


def measurement_writer(picture: Picture) -> Callable[[Path], Path]:
    """Writes a simulated input, in the form in which the task reads a real one."""
    return lambda folder: files.save(picture, folder / MEASUREMENT)


@dataclass(frozen=True)
class FromPicture(Solver):
    """No measurement is imposed: ``y`` is where the walk starts, ``x = y + noise`` of the first level.

    Args:
        together: all parts get the same fresh noise between steps, so that frames of a series change smoothly.
    """

    together: bool = False

    def begin(self, problem: Problem, x: Tensor, levels: Sequence[float]) -> tuple[Tensor, Any]:
        return x + problem.measurements(x), None

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        if not self.together or step.sigma_next == 0:
            return StepResult(step.x0, None, None, state)
        noise = step.randomness.normal(step.x0.shape, step.x0.device)[:1]
        boundary = step.model.sigma_boundary
        x_next = step.x0 + math.sqrt(max(step.sigma_next**2 - boundary**2, 0.0)) * noise
        return StepResult(step.x0, x_next, None, state)


def starting_at(x: Tensor, valid_range: tuple[float, float], together: bool = False) -> Problem:
    """The problem that starts at ``x`` (parts, C, H, W)."""
    return Problem(Identity(x.shape[1:]), x, 0.0, FromPicture(together), valid_range)
