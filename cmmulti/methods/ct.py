"""Consistency training: CT (Song et al. 2023, arXiv 2303.01469, algorithm 3 and appendix C)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.methods.base import Budget, Loss, Method, MethodSettings, Progress, Recommended, StageEvent
from cmmulti.methods.distance import TrainingDistance, distance_of
from cmmulti.methods.target import Target
from cmmulti.model import Model, Role, expand
from cmmulti.noise import finest, karras_at
from cmmulti.parameterization import Consistency, Parameterization
from cmmulti.randomness import TrainingRandomness


class CTSettings(MethodSettings):
    """Settings of CT; the defaults are the authors' for CIFAR-10, but for the ``distance``: theirs is LPIPS,
    as that of a feature network is.

    ``first``, ``last``: s_0 and s_1; the grid has s_0 levels at the start and s_1 + 1 at the end (ImageNet-64: 2, 200).
    ``target_decay``: mu_0, the target's decay while the grid has s_0 intervals (0.95 for larger pictures).
    """

    first: int = Field(2, ge=1)
    last: int = Field(150, ge=1)
    target_decay: float = Field(0.9, gt=0, lt=1)
    distance: TrainingDistance = "huber"

    @model_validator(mode="after")
    def _growing(self) -> CTSettings:
        if self.last < self.first:
            raise ValueError(f"last = {self.last}: expected at least first = {self.first}")
        return self


class CT(Method):
    """Consistency from data alone: both ends of a step share one noise, which replaces the teacher.

    ``E d(f(x0 + s_i z, s_i), sg f^-(x0 + s_{i+1} z, s_{i+1}))`` on Karras' grid of N levels. A coarse grid has little
    variance and much bias; N grows as the root of the time spent, and the target's decay with it.
    """

    Settings = CTSettings
    settings: CTSettings
    role: ClassVar[Role] = "consistency"
    paper = "arXiv 2303.01469"
    target: Target

    def parameterization(self, sigma_data: float) -> Parameterization:
        return Consistency(sigma_data=sigma_data)

    def setup(self, model: Model, teacher: Model | None, budget: Budget) -> None:
        super().setup(model, teacher, budget)
        self.distance = distance_of(self.settings.distance)
        self.target = Target(model, average=True)

    def intervals(self, progress: Progress) -> int:
        """``n = ceil(sqrt(k/K ((s_1 + 1)^2 - s_0^2) + s_0^2) - 1)``, at least 1; the grid has ``N = n + 1`` levels."""
        s = self.settings
        return max(1, math.ceil(math.sqrt(progress.fraction * ((s.last + 1) ** 2 - s.first**2) + s.first**2) - 1))

    def decay(self, progress: Progress) -> float:
        """``mu = exp(s_0 ln mu_0 / n)``."""
        s = self.settings
        return math.exp(s.first * math.log(s.target_decay) / self.intervals(progress))

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        n = self.intervals(progress)
        draw = randomness.generator("sigma", x0.device)
        index = torch.randint(n, (len(x0),), generator=draw, device=x0.device)
        sigma, sigma_next = (
            karras_at((index + i).to(finest(x0.device)) / n, model.sigma_boundary, model.sigma_max).float() for i in (0, 1)
        )
        noise = randomness.normal_like(x0)
        with randomness.dropout(x0.device):
            student = model.endpoint(torch.addcmul(x0, expand(sigma, x0), noise), sigma, condition)
        with randomness.dropout(x0.device):
            near = torch.addcmul(x0, expand(sigma_next, x0), noise)
            target = self.target.endpoint(model, near, sigma_next, condition)
        apart = self.distance(student, target)
        return Loss.mean(apart, sigma, levels=n + 1, ratio=sigma_next / sigma)

    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        self.target.update(model, self.decay(progress.before()))
        n = self.intervals(progress)
        return None if n == self.intervals(progress.before()) else StageEvent(f"CT: {n + 1} noise levels")

    def recommended(self) -> Recommended:
        return Recommended(optimizer="radam", learning_rate=4e-4)
