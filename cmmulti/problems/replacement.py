"""Replacement: the zero-shot editing of Consistency Models (arXiv 2303.01469, algorithm 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cmmulti.problems.base import Problem, Solver, Step, StepResult


@dataclass(frozen=True)
class Replacement(Solver):
    """Known coordinates are put back into every clean estimate: ``x0 <- A^+ y + (x0 - A^+ A x0)``.

    For operators that select coordinates of an orthonormal basis (masks, colour mixing, block means, single-coil k-space).
    Exact measurements only: their noise would be copied. The sampler re-noises the corrected estimate with fresh noise.
    """

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        return StepResult(problem.projected(step.x0), state=state)

    def finish(self, problem: Problem, x0: Tensor, state: Any) -> Tensor:
        # Once more: clamping to the valid range has moved the estimate since.
        return problem.projected(x0)
