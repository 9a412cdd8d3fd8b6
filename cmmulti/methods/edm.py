"""The denoising teacher: EDM (Karras et al. 2022, arXiv 2206.00364)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.distances import mean_square
from cmmulti.methods.base import Loss, Method, MethodSettings, Progress, Recommended
from cmmulti.model import Model, Role, expand
from cmmulti.noise import LogNormal
from cmmulti.parameterization import EDM as EDMPreconditioning
from cmmulti.parameterization import Parameterization
from cmmulti.randomness import TrainingRandomness


class EDMSettings(MethodSettings):
    """``ln sigma ~ N(p_mean, p_std^2)`` (table 1 of the paper)."""

    p_mean: float = -1.2
    p_std: float = Field(1.2, gt=0)


class EDM(Method):
    """Denoising score matching: ``E w(sigma) |D(x0 + sigma n, sigma) - x0|^2``, ``w = (sigma^2 + sd^2) / (sigma sd)^2``.

    The weight makes every noise level's target of unit variance for the bare network (eq. 8). The result is a teacher: it
    samples in tens of evaluations with an ODE solver, and students are distilled from it.
    """

    Settings = EDMSettings
    settings: EDMSettings
    role: ClassVar[Role] = "teacher"
    paper = "arXiv 2206.00364"
    shards = True

    def parameterization(self, sigma_data: float) -> Parameterization:
        return EDMPreconditioning(sigma_data)

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        settings = self.settings
        law = LogNormal(settings.p_mean, settings.p_std, maximum=model.sigma_max)
        sigma = law.sample(len(x0), randomness.generator("sigma", x0.device))
        noisy = torch.addcmul(x0, expand(sigma, x0), randomness.normal_like(x0))
        with randomness.dropout(x0.device):
            estimate = model.denoise(noisy, sigma, condition)
        # c_out^-2 in every parameterization: the error of the bare network.
        weight = model.parameterization.coefficients(sigma).c_out.square().reciprocal()
        return Loss.mean(weight * mean_square(estimate, x0), sigma)

    def recommended(self) -> Recommended:
        return Recommended(optimizer="adam", learning_rate=1e-3, clip=1.0)
