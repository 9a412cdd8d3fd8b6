"""Easy consistency tuning: ECT (Geng et al. 2024, arXiv 2406.14548)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.distances import pseudo_huber
from cmmulti.methods.base import Loss, Method, MethodSettings, Progress, Recommended, StageEvent
from cmmulti.model import Model, Role, expand
from cmmulti.noise import LogNormal
from cmmulti.parameterization import EDM as EDMPreconditioning
from cmmulti.parameterization import Parameterization
from cmmulti.randomness import TrainingRandomness

MOST_STEPS = 1e6
"""Smallest step is t over this: single precision tells no nearer neighbours of t apart."""


PairWeighting = Literal["inverse-step", "edm"]
"""Weight of a pair of levels: ``1 / (t - r)``, or ``1 / c_out(t)^2``."""


class ECTSettings(MethodSettings):
    """Settings of ECT; the defaults are the authors' for CIFAR-10.

    ``p_mean``, ``p_std``: of ``ln t``. ``q``: by how much the step shrinks per stage. ``stages``: how many stages the
    budget is cut into; the last one's step is ``t q^-stages``. ``k``, ``b``: of the mapping ``n(t) = 1 + k sigmoid(-b t)``.
    ``weighting``: ``inverse-step`` is ``1 / (t - r)`` (CIFAR-10), ``edm`` is ``1 / c_out^2`` (ImageNet-64).
    ``huber``: the constant c of the distance, ``sqrt(|.|^2 + c^2) - c``.
    """

    p_mean: float = -1.1
    p_std: float = Field(2.0, gt=0)
    q: float = Field(2.0, gt=1)
    stages: int = Field(8, ge=1)
    k: float = Field(8.0, ge=0)
    b: float = Field(1.0, ge=0)
    weighting: PairWeighting = "inverse-step"
    huber: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _representable(self) -> ECTSettings:
        if self.stages * math.log(self.q) > math.log(MOST_STEPS):
            raise ValueError(f"stages = {self.stages}, q = {self.q:g}: expected q^stages of at most {MOST_STEPS:g}")
        return self


class ECT(Method):
    """A denoiser is tuned into a consistency model by shrinking the step between two noise levels of one trajectory.

    ``E w(t) d(f(x0 + t z, t), sg f(x0 + r z, r))`` with the same noise, weights and dropout mask on both sides. In the
    first stage r is mostly 0, and the loss is denoising; the step then falls by ``q`` a stage, and the bias of the final
    one, ``q^-stages``, remains.
    """

    Settings = ECTSettings
    settings: ECTSettings
    role: ClassVar[Role] = "consistency"
    paper = "arXiv 2406.14548"
    shards = True

    def parameterization(self, sigma_data: float) -> Parameterization:
        return EDMPreconditioning(sigma_data)

    def stage(self, progress: Progress) -> int:
        """The stage, counted from 0, at this point of the budget."""
        settings = self.settings
        # A boundary must not depend on how the fraction was rounded, or a stage would be told twice.
        return min(int(progress.fraction * settings.stages + 1e-9), settings.stages - 1)

    def target_level(self, t: Tensor, stage: int) -> Tensor:
        """``r = max(0, t (1 - n(t) q^-(stage + 1)))`` (section 3.2 and the authors' loss.py)."""
        s = self.settings
        return (t * (1 - step_growth(t, s.k, s.b) * s.q ** -(stage + 1))).clamp_min(0)

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        settings = self.settings
        law = LogNormal(settings.p_mean, settings.p_std, maximum=model.sigma_max)
        t = law.sample(len(x0), randomness.generator("sigma", x0.device))
        stage = self.stage(progress)
        r = self.target_level(t, stage)
        noise = randomness.normal_like(x0)
        with randomness.dropout(x0.device):
            student = model.endpoint(torch.addcmul(x0, expand(t, x0), noise), t, condition)
        with randomness.dropout(x0.device), torch.no_grad():
            target = model.endpoint(torch.addcmul(x0, expand(r, x0), noise), r, condition)
            target = torch.where(expand(r, x0) > 0, target, x0)
        weight = pair_weight(settings.weighting, model, t, r)
        return Loss.mean(weight * pseudo_huber(student, target, settings.huber), t, stage=stage, ratio=r / t)

    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        settings = self.settings
        stage = self.stage(progress)
        if stage == self.stage(progress.before()):
            return None
        return StageEvent(f"ECT stage {stage}: step 1 - r/t down to {settings.q ** -(stage + 1):.3g}")

    def recommended(self) -> Recommended:
        return Recommended(optimizer="radam", learning_rate=3e-4)


def step_growth(t: Tensor, k: float, b: float) -> Tensor:
    """``n(t) = 1 + k sigmoid(-b t)``, (B,): how many times longer steps are at low levels (section 3.2)."""
    return 1 + k * torch.sigmoid(-b * t)


def pair_weight(kind: PairWeighting, model: Model, t: Tensor, r: Tensor) -> Tensor:
    """The weight (B,) of pairs at levels ``t`` and ``r < t``, (B,) each."""
    if kind == "inverse-step":
        return (t - r).reciprocal()
    return model.parameterization.coefficients(t).c_out.square().reciprocal()
