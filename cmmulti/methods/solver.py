"""Steps of a teacher's probability-flow ODE inside a loss."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.model import Model, evaluating, expand

Solver = Literal["heun", "euler"]


@torch.no_grad()
def teacher_step(
    teacher: Model, x: Tensor, sigma: Tensor, sigma_next: Tensor, condition: Condition, solver: Solver
) -> Tensor:
    """One step of ``dx/dsigma = (x - D(x, sigma)) / sigma`` from ``sigma`` to ``sigma_next > 0``, (B,) each.

    Without dropout and without gradient. ``euler`` takes one evaluation, ``heun`` averages the slopes at both ends.
    """
    step = expand(sigma_next - sigma, x)
    with evaluating(teacher):
        slope = (x - teacher.denoise(x, sigma, condition)) / expand(sigma, x)
        ahead = x + step * slope
        if solver == "euler":
            return ahead
        second = (ahead - teacher.denoise(ahead, sigma_next, condition)) / expand(sigma_next, x)
    return x + step * (slope + second) / 2
