"""Range and null space: DDNM and its noisy form DDNM+ (Wang et al. 2022, arXiv 2212.00490)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cmmulti.model import expand
from cmmulti.problems.base import Problem, Solver, Step, StepResult


@dataclass(frozen=True)
class NullSpace(Solver):
    """``x0 <- x0 + c A^+ (y - A x0)``: the measured part is the data's, the rest the network's.

    With exact measurements ``c = 1``. With noisy ones (DDNM+, eq. 17-19) the part of the next state that was measured
    brings its own noise along, so that less is added there, and ``c = min(1, sigma_next / s)`` once that noise, of
    standard deviation s in model space, exceeds the level: the last estimate is the network's own
    (in a single step noisy measurements are not looked at). It differs from
    :class:`~cmmulti.problems.replacement.Replacement` in this alone.

    The noise is taken as white on the measured coordinates, which holds for orthogonal rows of one length: masks, block
    means of equal blocks, single-coil k-space. Use proximal CG for others.
    """

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        operator, x0 = problem.operator, step.x0
        measured = operator.pinv(problem.measurements(x0) - operator(x0))
        if problem.noise == 0:
            return StepResult(problem.admissible(x0 + measured), state=state)
        if step.sigma_next == 0:
            return StepResult(x0, state=state)
        noise = step.randomness.normal(x0.shape, x0.device)
        std = noise_in_model_space(problem, noise)
        share = (step.sigma_next / std).clamp_max(1)
        x0 = problem.admissible(x0 + share * measured)
        return StepResult(x0, x0 + noise_beside(problem, noise, step.sigma_next, share * std), state=state)

    def finish(self, problem: Problem, x0: Tensor, state: Any) -> Tensor:
        return x0 if problem.noise > 0 else problem.projected(x0)


def noise_in_model_space(problem: Problem, probe: Tensor) -> Tensor:
    """Standard deviation of ``A^+ noise`` per measured coordinate, (B, 1, ...): ``noise / |row of A|``.

    ``probe`` (B, C, *spatial) is any random tensor: ``A A^H = a^2`` for orthogonal rows of length a.
    """
    image = problem.operator(probe)
    back = problem.operator.adjoint(image)
    size = _norm(image)
    length = torch.where(size > 0, _norm(back) / size, 1.0)
    return expand(problem.noise / length, probe).to(probe)


def noise_beside(problem: Problem, noise: Tensor, sigma: float, present: Tensor) -> Tensor:
    """``noise`` (unit) scaled to ``sigma``, less on measured coordinates, where noise of std ``present`` already is."""
    operator = problem.operator
    inside = operator.pinv(operator(noise))
    rest = (sigma**2 - present.square()).clamp_min(0).sqrt()
    return sigma * (noise - inside) + rest * inside


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1)
