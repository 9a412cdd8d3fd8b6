"""What the tasks share: reading their input, starting from a picture, and saving a simulated one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.noise import geometric
from cmmulti.operators.base import Identity
from cmmulti.problems.base import Problem, Solver, Step, StepResult
from cmmulti.randomness import SampleRandomness
from modalities.image import files, representation
from modalities.image.picture import Picture

MEASUREMENT = "measurement.png"
SIMULATED = "simulated: the input was made worse on purpose, so that the right answer is known"
FREEST, CLOSEST = 20.0, 0.2
"""Noise levels at which next to nothing and next to everything of a guide is left, on the model's scale of -1 to 1."""


def picture_of(source: Path | Picture | None) -> Picture:
    """The input of a task."""
    if source is None:
        raise UserError("input: expected a picture, got none")
    return files.load(source) if isinstance(source, Path) else source


def transparency_lost(picture: Picture) -> list[str]:
    """A note where the input has alpha, for tasks whose result has none."""
    return [] if picture.alpha is None else [f"{picture.name}: its transparency was left out"]


def level_of(strength: float, sigma_max: float) -> float:
    """The noise level that lets a model change a guide by ``strength`` in 0..1, evenly in ``ln sigma``."""
    return min(CLOSEST * (FREEST / CLOSEST) ** strength, sigma_max)


def descending(first: float) -> Callable[[int], Sequence[float]]:
    """Levels from ``first`` down, evenly in ``ln sigma``: the further steps sharpen what the first has decided.

    A task starts from its measurement and no higher than it must: from pure noise the first estimate hears nothing of what
    is known. The tasks' defaults were chosen on validation digits and pictures, by PSNR and feature distance.
    """

    def levels(steps: int) -> Sequence[float]:
        if steps < 1:
            raise UserError(f"steps: expected at least 1, got {steps}")
        return geometric(steps, first, min(first / 4, 0.3))

    return levels


def measurement_writer(picture: Picture) -> Callable[[Path], Path]:
    """Writes a simulated input, in the form in which the task reads a real one."""
    return lambda folder: files.save(picture, folder / MEASUREMENT)


Renoising = Literal["fresh", "shared", "kept"]


@dataclass(frozen=True)
class FromPicture(Solver):
    """No measurement is imposed: ``y`` is where the walk starts, ``x = y + noise`` of the first level.

    Args:
        renoising: what is added between steps. ``fresh``: the sampler's own noise. ``shared``: the same fresh noise for
            all parts, so that frames of a series change smoothly. ``kept``: what the estimate left over,
            ``(x - x0) / sigma``: for a denoiser an Euler step of the ODE. A model that knows where the trajectory ends has
            no use for further steps: they lose 0.1 dB (two) to 0.25 dB (four) on handwritten digits at sigma = 40.
    """

    renoising: Renoising = "fresh"

    def begin(
        self, problem: Problem, x: Tensor, levels: Sequence[float], randomness: SampleRandomness
    ) -> tuple[Tensor, Any]:
        return x + problem.measurements(x), None

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        x_next = None
        if step.sigma_next > 0 and self.renoising == "kept":
            x_next = step.x0 + step.sigma_next / step.sigma * (step.x - step.x0)
        elif step.sigma_next > 0 and self.renoising == "shared":
            noise = step.randomness.normal(step.x0.shape, step.x0.device)[:1]
            x_next = step.x0 + math.sqrt(max(step.sigma_next**2 - step.model.sigma_boundary**2, 0.0)) * noise
        return StepResult(step.x0, x_next, state=state)


def starting_at(x: Tensor, renoising: Renoising = "fresh") -> Problem:
    """The problem that starts at ``x`` (parts, C, H, W)."""
    return Problem(Identity(x.shape[1:]), x, 0.0, FromPicture(renoising), representation.VALID_RANGE)
