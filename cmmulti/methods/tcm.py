"""Truncated consistency models: the second stage of TCM (Lee et al. 2024, arXiv 2410.14895)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy import stats
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.distances import pseudo_huber
from cmmulti.errors import UserError
from cmmulti.methods.base import Budget, Exported, Loss, Method, MethodSettings, Progress, Recommended, StageEvent
from cmmulti.methods.ect import PairWeighting, pair_weight, step_growth
from cmmulti.model import Model, Role, evaluating, expand
from cmmulti.parameterization import EDM, Parameterization
from cmmulti.randomness import TrainingRandomness


class TCMSettings(MethodSettings):
    """Settings of TCM's second stage; the defaults are the authors' for CIFAR-10 (ImageNet-64: ``huber`` 0.06, ``edm``).

    ``split``: t', below which the first stage's model stays. ``degrees``, ``scale``, ``mean``: of the Student law of
    ``ln t``, cut to [t', sigma_max]. ``boundary_share``, ``boundary_weight``: of the samples at t'. ``q``: by how much the
    step shrinks per stage. ``first_stage``: the stage at which the first model's training ended, counted from 0.
    ``stages``: how many this budget is cut into. ``ratio_limit``: most that ``1 - q^-(stage + 1)`` may be (ImageNet-64:
    0.9961). ``k``, ``b``, ``weighting``, ``huber``: as for ECT.
    """

    split: float = Field(1.0, gt=0)
    degrees: float = Field(0.01, gt=0)
    scale: float = Field(0.2, gt=0)
    mean: float = 0.0
    boundary_share: float = Field(0.25, gt=0, lt=1)
    boundary_weight: float = Field(0.1, ge=0)
    q: float = Field(2.0, gt=1)
    first_stage: int = Field(7, ge=0)
    stages: int = Field(1, ge=1)
    ratio_limit: float = Field(0.999, gt=0, le=0.999999)
    k: float = Field(8.0, ge=0)
    b: float = Field(1.0, ge=0)
    weighting: PairWeighting = "inverse-step"
    huber: float = Field(1e-8, ge=0)


class TCM(Method):
    """A consistency model is trained further where generation starts, and kept where it only finishes.

    Below t' the function is the first stage's model (method ``ect``), frozen; above, the student, which starts from its
    weights. ``E w d(f(x0 + t z, t), sg f(x0 + r z, r))`` over t in [t', sigma_max], where f at r is whichever of the two
    serves r. A share of the batch lies at t', where r < t' makes the target the first stage's: that ties both together
    (section 3). What is exported is the pair.
    """

    Settings = TCMSettings
    settings: TCMSettings
    role: ClassVar[Role] = "consistency"
    needs_teacher = True
    teacher_roles = ("consistency",)
    networks = 2
    paper = "arXiv 2410.14895"
    shards = True
    quantiles: Tensor

    def parameterization(self, sigma_data: float) -> Parameterization:
        return EDM(sigma_data)

    def setup(self, model: Model, teacher: Model | None, budget: Budget) -> None:
        super().setup(model, teacher, budget)
        if self.settings.split >= model.sigma_max:
            raise UserError(
                f"method.split = {self.settings.split:g}: expected a level below sigma_max = {model.sigma_max:g}"
            )
        self.register_buffer("quantiles", self.law(model.sigma_max).float(), persistent=False)

    def law(self, sigma_max: float, points: int = 8193) -> Tensor:
        """Quantiles of ``ln t`` at even probabilities from 0 to 1, float64: Student's law on [ln t', ln sigma_max]."""
        s = self.settings
        grid = np.linspace(np.log(s.split), np.log(sigma_max), 16 * points)
        cumulative = stats.t.cdf(grid, s.degrees, loc=s.mean, scale=s.scale)
        if not cumulative[-1] - cumulative[0] > 1e-9:
            told = f"method.mean = {s.mean:g}, method.scale = {s.scale:g}, method.degrees = {s.degrees:g}"
            raise UserError(f"{told}: this law has nothing between {s.split:g} and {sigma_max:g}; expected one that has")
        even = np.linspace(cumulative[0], cumulative[-1], points)
        return torch.from_numpy(np.interp(even, cumulative, grid))

    def levels(self, uniform: Tensor) -> Tensor:
        """``t`` from uniform draws (B,) on [0, 1)."""
        place = uniform.to(self.quantiles) * (len(self.quantiles) - 1)
        low = place.long().clamp_max(len(self.quantiles) - 2)
        return torch.lerp(self.quantiles[low], self.quantiles[low + 1], place - low).exp()

    def stage(self, progress: Progress) -> int:
        """The stage, counted from the first of the model's first training."""
        s = self.settings
        return s.first_stage + min(int(progress.fraction * s.stages + 1e-9), s.stages - 1)

    def target_level(self, t: Tensor, stage: int) -> Tensor:
        """``r = max(1e-6, t - t (1 - ratio) n(t))``, ``ratio = min(1 - q^-(stage + 1), limit)``, n(t) as for ECT."""
        s = self.settings
        ratio = min(1 - s.q ** -(stage + 1), s.ratio_limit)
        return (t - t * (1 - ratio) * step_growth(t, s.k, s.b)).clamp_min(1e-6)

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        s, n, device = self.settings, len(x0), x0.device
        # By index: examples come in random order. The offset decides on a share that is no whole number of samples.
        count = torch.floor(n * s.boundary_share + randomness.uniform(1, device, "share"))
        boundary = torch.arange(n, device=device) < count
        t = self.levels(randomness.uniform(n, device, "sigma")).float().clamp(s.split, model.sigma_max)
        t = torch.where(boundary, s.split, t)
        stage = self.stage(progress)
        r = self.target_level(t, stage)
        noise = randomness.normal_like(x0)
        with randomness.dropout(device):
            student = model.endpoint(torch.addcmul(x0, expand(t, x0), noise), t, condition)
        near = torch.addcmul(x0, expand(r, x0), noise)
        with torch.no_grad():
            with randomness.dropout(device):
                above = model.endpoint(near, r, condition)
            with evaluating(self.teacher):
                below = self.teacher.endpoint(near, r, condition)
            target = torch.where(expand(r < s.split, x0), below, above)
        apart = pair_weight(s.weighting, model, t, r) * pseudo_huber(student, target, s.huber)
        sums = [torch.where(part, apart, 0).sum() / part.sum().clamp_min(1) for part in (~boundary, boundary)]
        return Loss(sums[0] + s.boundary_weight * sums[1], t, apart.detach(), {"stage": stage, "ratio": r / t})

    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        stage = self.stage(progress)
        return None if stage == self.stage(progress.before()) else StageEvent(f"TCM stage {stage}")

    def recommended(self) -> Recommended:
        return Recommended(optimizer="radam", learning_rate=5e-5)

    def exported(self, model: Model) -> list[Exported]:
        split = self.settings.split
        return [
            Exported(self.teacher, self.teacher.sigma_boundary, split),
            Exported(model, split, model.sigma_max),
        ]
