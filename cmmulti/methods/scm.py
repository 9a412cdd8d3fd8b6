"""Continuous-time consistency models: sCT and sCD (Lu and Song 2024, arXiv 2410.11081, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from cmmulti.conditioning import Condition
from cmmulti.distances import squared_l2
from cmmulti.methods.base import Budget, Loss, Method, MethodSettings, Progress, Recommended
from cmmulti.methods.derivative import Derivative, along, steps_inside
from cmmulti.methods.guidance import Guidance, Weight, students_condition, teachers_condition
from cmmulti.methods.weighting import LearnedWeight
from cmmulti.model import Model, Role, evaluating, expand
from cmmulti.noise import LogNormal
from cmmulti.parameterization import EDM, Parameterization, TrigFlow
from cmmulti.randomness import TrainingRandomness

WARMUP = 10_000
"""Steps of the authors' warm-up, in runs of hundreds of thousands."""


class SCTSettings(MethodSettings):
    """Settings of sCT; the defaults are the authors' for CIFAR-10 (ImageNet-64: ``p_std`` 1.6; 512: -0.8, 1.6).

    ``p_mean``, ``p_std``: of ``ln sigma``, ``t = arctan(sigma / sigma_data)``. ``warmup``: steps over which the part of the
    tangent that holds the derivative grows from 0 to its whole, before which answers are too small; null is 10,000 (the
    authors'), or a quarter of a shorter run. ``normalization``: the constant c of ``g / (|g| + c)``, or
    0 to clip the elements of g to [-1, 1] instead. ``derivative``: exact, or by differences of at most
    ``difference_step`` in t.
    ``form``: ``trigflow``, or ``edm`` for a student that starts from the weights of an EDM network, whose sign and time
    differ.
    """

    p_mean: float = -1.0
    p_std: float = Field(1.4, gt=0)
    warmup: int | None = Field(None, ge=1)
    normalization: float = Field(0.1, ge=0)
    derivative: Derivative = "forward-mode"
    difference_step: float = Field(1e-3, gt=0, le=0.1)
    form: Literal["trigflow", "edm"] = "trigflow"


class SCT(Method):
    """The limit of consistency training for steps of length 0, in TrigFlow.

    ``E e^u(t) / d |F - sg F - g / (|g| + c)|^2 - u(t)`` with
    ``g = -cos^2 t (sd F - dx/dt) - r cos t sin t (x + sd dF/dt)``, which is ``cos t df/dt`` once the warm-up r is 1
    (eq. 6 to 8), ``dF/dt`` along the trajectory and u learned. The velocity ``dx/dt = cos t sd z - sin t x0`` of the pair
    stands for that of the trajectory. No step, so no bias of one.
    """

    Settings: ClassVar[type[MethodSettings]] = SCTSettings
    settings: SCTSettings
    role: ClassVar[Role] = "consistency"
    differentiates = True
    paper = "arXiv 2410.11081"
    shards = True
    weight: LearnedWeight
    warmup: int

    def parameterization(self, sigma_data: float) -> Parameterization:
        return TrigFlow(sigma_data) if self.settings.form == "trigflow" else EDM(sigma_data)

    def setup(self, model: Model, teacher: Model | None, budget: Budget) -> None:
        super().setup(model, teacher, budget)
        self.weight = LearnedWeight()
        self.warmup = self.settings.warmup or max(1, min(WARMUP, budget.steps // 4))

    def trainable(self, model: Model) -> Iterator[nn.Parameter]:
        yield from model.parameters()
        yield from self.weight.parameters()

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        s, sd = self.settings, sigma_data_of(model)
        law = LogNormal(s.p_mean, s.p_std, maximum=model.sigma_max)
        sigma = law.sample(len(x0), randomness.generator("sigma", x0.device))
        t, noise = torch.atan(sigma / sd), sd * randomness.normal_like(x0)
        cos, sin = expand(t.cos(), x0), expand(t.sin(), x0)
        x = cos * x0 + sin * noise
        condition = self.conditioned(condition, randomness, x0)
        velocity = self.velocity(x, t, cos * noise - sin * x0, condition, sd)

        def network(x: Tensor, t: Tensor) -> Tensor:
            with randomness.dropout(x0.device):
                return self.output(model, x, t, condition)

        # Before the pass with a gradient, whose activations stay in memory until the backward pass.
        slope = self.slope(network, x, t, velocity)
        output = network(x, t)
        ramp = min(1.0, progress.step / self.warmup)
        tangent = self.tangent(output.detach(), slope, x, t, velocity, ramp, sd)
        error = squared_l2(output - output.detach(), self.limited(tangent)) / x0[0].numel()
        extras: dict[str, Tensor | float] = {"tangent_norm": norms(tangent), "warmup": ramp}
        return Loss(self.weight.balanced(error, sigma).mean(), sigma.detach(), error.detach(), extras)

    def conditioned(self, condition: Condition, randomness: TrainingRandomness, x0: Tensor) -> Condition:
        """The condition of student and teacher; training from data knows no guidance."""
        return condition

    def velocity(self, x: Tensor, t: Tensor, pair: Tensor, condition: Condition, sd: float) -> Tensor:
        """``dx/dt`` at the TrigFlow point x: here ``pair``, that of the data and the noise that x was made of."""
        return pair

    def output(self, model: Model, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """TrigFlow's ``F(x / sd, t)`` of the student, in either form and in x's dtype."""
        if isinstance(model.parameterization, TrigFlow):
            return model.raw(x, t, condition).to(x.dtype)
        # EDM's network answers with the opposite sign, on the canonical x = x_t / cos t and at the time ln(sd tan t) / 4.
        time = model.parameterization.to_native(sigma_data_of(model) * t.tan())
        return -model.raw(x / expand(t.cos(), x), time, condition).to(x.dtype)

    def slope(self, network: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor, velocity: Tensor) -> Tensor:
        """``cos t sin t dF/dt`` along the trajectory, where ``network(x, t)`` is F; without gradient."""
        s = self.settings
        step = steps_inside(t, math.pi / 2, s.difference_step)
        return along(network, (x, t), (velocity, torch.ones_like(t)), t.cos() * t.sin(), step, s.derivative)

    def tangent(
        self, output: Tensor, slope: Tensor, x: Tensor, t: Tensor, velocity: Tensor, ramp: float, sd: float
    ) -> Tensor:
        """``g`` before it is limited, of F's value ``output`` and its :meth:`slope`; ``ramp`` is the warm-up r."""
        cos, sin = t.cos(), t.sin()
        first = expand(cos.square(), x) * (sd * output - velocity)
        return -first - ramp * (expand(cos * sin, x) * x + sd * slope)

    def limited(self, tangent: Tensor) -> Tensor:
        """``g / (|g| + c)`` with the norm over a whole sample, or g clipped to [-1, 1]."""
        c = self.settings.normalization
        if c == 0:
            return tangent.clamp(-1, 1)
        return tangent / (expand(norms(tangent), tangent) + c)

    def recommended(self) -> Recommended:
        return Recommended(optimizer="radam", learning_rate=1e-4, betas=(0.9, 0.99))


class SCDSettings(SCTSettings):
    """Settings of sCD: sCT's, and ``guidance`` of the teacher: one weight, or the range that weights are drawn from.

    1 is no guidance (authors: 1 to 2 for ImageNet-512). With a range the weight is an input of the student
    (``network.guided: true``).
    """

    guidance: Weight | Guidance | None = None


class SCD(SCT):
    """sCT with the velocity of a teacher, ``dx/dt = sd F_teacher``, classifier-free guidance included."""

    Settings = SCDSettings
    settings: SCDSettings
    needs_teacher = True

    def conditioned(self, condition: Condition, randomness: TrainingRandomness, x0: Tensor) -> Condition:
        return students_condition(condition, self.settings.guidance, randomness, x0)

    @torch.no_grad()
    def velocity(self, x: Tensor, t: Tensor, pair: Tensor, condition: Condition, sd: float) -> Tensor:
        """From ``D = cos t x_t - sin t (sd F)``, whatever the teacher's own form."""
        cos, sin = expand(t.cos(), x), expand(t.sin(), x)
        condition = teachers_condition(condition, self.settings.guidance, x)
        with evaluating(self.teacher):
            estimate = self.teacher.denoise(x / cos, sd * t.tan(), condition)
        return (cos * x - estimate) / sin


def norms(x: Tensor) -> Tensor:
    """(B,) L2 norms over whole samples."""
    return x.flatten(1).norm(dim=1)


def sigma_data_of(model: Model) -> float:
    """The student's sigma_data, which both of its forms have."""
    return cast(EDM | TrigFlow, model.parameterization).sigma_data
