"""Improved consistency training: iCT (Song and Dhariwal 2023, arXiv 2310.14189)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.distances import pseudo_huber
from cmmulti.methods.base import Budget, Loss, Method, MethodSettings, Progress, Recommended, StageEvent
from cmmulti.model import Model, Role, expand
from cmmulti.noise import finest, karras_at
from cmmulti.parameterization import Consistency, Parameterization
from cmmulti.randomness import TrainingRandomness


class ICTSettings(MethodSettings):
    """Settings of iCT; the defaults are the authors' for CIFAR-10 and ImageNet-64.

    ``first``, ``last``: s_0 and s_1, the grid's intervals at the start and the end. ``p_mean``, ``p_std``: of ``ln sigma``.
    ``huber``: the distance's constant c is this times ``sqrt(d)``, d the elements of a sample.
    """

    first: int = Field(10, ge=1)
    last: int = Field(1280, ge=1)
    p_mean: float = -1.1
    p_std: float = Field(2.0, gt=0)
    huber: float = Field(0.00054, ge=0)

    @model_validator(mode="after")
    def _growing(self) -> ICTSettings:
        if self.last < self.first:
            raise ValueError(f"last = {self.last}: expected at least first = {self.first}")
        return self


class ICT(Method):
    """Consistency training without a slow target: the student is its own, one level below.

    ``E w d(f(x0 + s_{i+1} z, s_{i+1}), sg f(x0 + s_i z, s_i))`` with ``w = 1 / (s_{i+1} - s_i)`` on an ascending grid of N
    levels, the same noise, weights and dropout mask on both sides, and a pseudo-Huber distance (sections 3.2 to 3.5). N
    doubles in stages of equal length. Levels are drawn from a lognormal law cut at the grid.
    """

    Settings = ICTSettings
    settings: ICTSettings
    role: ClassVar[Role] = "consistency"
    paper = "arXiv 2310.14189"
    shards = True
    steps: int

    def parameterization(self, sigma_data: float) -> Parameterization:
        return Consistency(sigma_data=sigma_data)

    def setup(self, model: Model, teacher: Model | None, budget: Budget) -> None:
        super().setup(model, teacher, budget)
        self.steps = budget.steps

    def levels(self, progress: Progress) -> int:
        """``min(s_0 2^floor(k / K'), s_1) + 1`` with ``K' = floor(K / (log2 floor(s_1 / s_0) + 1))`` (section 3.4)."""
        s = self.settings
        stages = math.log2(s.last // s.first) + 1
        length = max(math.floor(self.steps / stages), 1)
        stage = round(progress.fraction * self.steps) // length
        # Beyond the last stage 2^stage has no use, and its size no bound.
        return int(min(s.first * 2 ** min(stage, 64), s.last)) + 1

    def pairs(self, levels: int, uniform: Tensor, sigma_min: float, sigma_max: float) -> tuple[Tensor, Tensor]:
        """``(s_i, s_{i+1})`` for uniform draws (B,) on [0, 1): the inverse of the law's cumulative sum, float64 where the
        device has that.

        ``p(i)`` is proportional to ``erf((ln s_{i+1} - m) / (sqrt(2) v)) - erf((ln s_i - m) / (sqrt(2) v))`` (section 3.5).
        """
        s = self.settings
        ascending = torch.arange(levels - 1, -1, -1, device=uniform.device, dtype=finest(uniform.device)) / (levels - 1)
        grid = karras_at(ascending, sigma_min, sigma_max)
        edges = torch.erf((grid.log() - s.p_mean) / (math.sqrt(2) * s.p_std))
        cumulative = (edges[1:] - edges[0]) / (edges[-1] - edges[0])
        index = torch.searchsorted(cumulative, uniform.to(cumulative), right=True).clamp_max(levels - 2)
        return grid[index], grid[index + 1]

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        uniform = randomness.uniform(len(x0), x0.device, "sigma")
        levels = self.levels(progress)
        low, high = self.pairs(levels, uniform, model.sigma_boundary, model.sigma_max)
        weight = (high - low).reciprocal().float()
        sigma, sigma_next, noise = high.float(), low.float(), randomness.normal_like(x0)
        with randomness.dropout(x0.device):
            student = model.endpoint(torch.addcmul(x0, expand(sigma, x0), noise), sigma, condition)
        with randomness.dropout(x0.device), torch.no_grad():
            target = model.endpoint(torch.addcmul(x0, expand(sigma_next, x0), noise), sigma_next, condition)
        c = self.settings.huber * math.sqrt(x0[0].numel())
        return Loss.mean(weight * pseudo_huber(student, target, c), sigma, levels=levels, ratio=sigma_next / sigma)

    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        levels = self.levels(progress)
        return None if levels == self.levels(progress.before()) else StageEvent(f"iCT: {levels} noise levels")

    def recommended(self) -> Recommended:
        return Recommended(optimizer="radam", learning_rate=1e-4, ema=(0.01, 0.025))
