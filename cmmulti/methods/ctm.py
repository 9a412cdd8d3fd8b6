"""Consistency trajectory models: CTM without its adversary (Kim et al. 2023, arXiv 2310.02279)."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from cmmulti.conditioning import Condition
from cmmulti.distances import mean_square
from cmmulti.methods.base import Budget, Loss, Method, MethodSettings, Progress, Recommended, StageEvent
from cmmulti.methods.distance import TrainingDistance, distance_of
from cmmulti.methods.guidance import Guidance, Weight, students_condition, teachers_condition
from cmmulti.methods.solver import teacher_step
from cmmulti.methods.target import Target
from cmmulti.model import Model, Role, evaluating, expand
from cmmulti.noise import SIGMA_MIN, finest, karras_at
from cmmulti.parameterization import EDM, Parameterization
from cmmulti.randomness import TrainingRandomness


class CTMSettings(MethodSettings):
    """Settings of CTM; the defaults are the authors' for CIFAR-10, but for the ``distance``: theirs is LPIPS,
    as that of a feature network is.

    ``levels``: N of Karras' grid (ImageNet-64: 40). ``solver_steps``: most Heun steps of the teacher (39).
    ``target_decay``: of the average that projects to the end. ``denoising``: weight of the denoising loss after it was
    balanced. ``p_mean``, ``p_std``: of ``ln sigma`` for half of the denoised samples; the other half lies on the first
    ``noisy_part`` of the grid. ``guidance``: of the teacher, one weight (null: none), or a range of weights, each an
    input of the student (``network.guided: true``); the authors train without.
    """

    levels: int = Field(18, ge=3)
    solver_steps: int = Field(17, ge=1)
    target_decay: float = Field(0.999, ge=0, lt=1)
    distance: TrainingDistance = "huber"
    denoising: float = Field(1.0, ge=0)
    p_mean: float = -1.2
    p_std: float = Field(1.2, gt=0)
    noisy_part: float = Field(0.7, ge=0, le=1)
    guidance: Weight | Guidance | None = None


class CTM(Method):
    """A network of two times learns to jump from any level t to any lower level s along the teacher's trajectory.

    ``G(x, t, s) = (s/t) x + (1 - s/t) g(x, t, s)``. Both ``G(x_t, t, s)`` and ``sg G(x_u, u, s)``, where ``x_u`` is some
    Heun steps of the teacher below ``x_t`` and ``s <= u < t``, are projected to the end by a slow average of the student,
    whose weights are held but which the gradient passes, and compared there (section 3.2). Denoising on the diagonal,
    ``E (s^2 + sd^2) / (s sd)^2 |g(x, s, s) - x0|^2``, is added at equal strength (section 3.3). Where the teacher is guided
    with weight w its mean is the guided estimate: ``x0 + (w - 1) (D_label - D_null)`` takes the place of x0 there.
    """

    Settings = CTMSettings
    settings: CTMSettings
    role: ClassVar[Role] = "two-time"
    needs_teacher = True
    paper = "arXiv 2310.02279"
    target: Target

    def parameterization(self, sigma_data: float) -> Parameterization:
        return EDM(sigma_data)

    def setup(self, model: Model, teacher: Model | None, budget: Budget) -> None:
        super().setup(model, teacher, budget)
        self.distance = distance_of(self.settings.distance)
        self.target = Target(model, average=True)

    def solver_steps(self, randomness: TrainingRandomness) -> int:
        """How many steps the teacher takes, one number for the batch, drawn in proportion to itself.

        All processes draw the same, or they would wait for each other.
        """
        s = self.settings
        counts = range(1, min(s.solver_steps, s.levels - 1) + 1)
        seed = replace(randomness, rank=0).generator("solver-steps").initial_seed()
        return random.Random(seed).choices(counts, weights=counts)[0]

    def indices(self, steps: int, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Places of t, u and s on the grid from uniform draws (B,): t with ``steps`` places below it, s at u or below."""
        n = self.settings.levels
        start = (first * (n - steps)).long()
        middle = start + steps
        return start, middle, middle + (second * (n - middle)).long()

    def level(self, index: Tensor, sigma_max: float) -> Tensor:
        """Karras' level at a place of the grid, float32."""
        n = self.settings.levels
        return karras_at(index.to(finest(index.device)) / (n - 1), SIGMA_MIN, sigma_max).float()

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        settings, n, device = self.settings, len(x0), x0.device
        steps = self.solver_steps(randomness)
        draws = (randomness.uniform(n, device, purpose) for purpose in ("t", "s"))
        start, middle, end = self.indices(steps, *draws)
        t, u = self.level(start, model.sigma_max), self.level(middle, model.sigma_max)
        # The last level of the grid stands for the end itself, where generation jumps to.
        s = torch.where(end == settings.levels - 1, model.sigma_boundary, self.level(end, model.sigma_max))
        x = torch.addcmul(x0, expand(t, x0), randomness.normal_like(x0))
        condition = students_condition(condition, settings.guidance, randomness, x0)
        followed = teachers_condition(condition, settings.guidance, x0)
        below = x
        for k in range(steps):
            here, there = (self.level(start + k + i, model.sigma_max) for i in (0, 1))
            below = teacher_step(self.teacher, below, here, there, followed, "heun")
        # Passes with a gradient come last: they keep their activations in memory until the backward pass.
        with torch.no_grad():
            with randomness.dropout(device):
                target = model.jump(below, u, s, condition)
            with randomness.dropout(device):
                target = self.target.project(model, target, s, condition)
        with randomness.dropout(device):
            jumped = model.jump(x, t, s, condition)
        with randomness.dropout(device):
            student = self.target.project(model, jumped, s, condition)
        apart = self.distance(student, target)
        value = apart.mean()
        if settings.denoising:
            value = linearized(value, jumped)
            denoising = self.denoising(model, x0, condition, randomness)
            value = value + settings.denoising * self.balance(model, value, denoising) * denoising
        return Loss(value, t, apart.detach(), {"levels": settings.levels, "ratio": u / t})

    def denoising_levels(self, normal: Tensor, uniform: Tensor, offset: Tensor, sigma_max: float) -> Tensor:
        """Lognormal in the first half of a batch, even on the grid's noisy part in the second.

        ``offset`` (1,) uniform on [0, 1) decides where half is no whole number of samples.
        """
        s, n = self.settings, len(normal)
        lognormal = (s.p_mean + s.p_std * normal).exp().clamp(SIGMA_MIN, sigma_max)
        noisy = karras_at(s.noisy_part * uniform, SIGMA_MIN, sigma_max)
        return torch.where(torch.arange(n, device=normal.device) < torch.ceil(n / 2 - offset), lognormal, noisy)

    def denoising(self, model: Model, x0: Tensor, condition: Condition, randomness: TrainingRandomness) -> Tensor:
        """The denoising loss on the diagonal, a scalar."""
        normal = randomness.normal_like(torch.empty(len(x0), device=x0.device), "denoising-sigma")
        uniform = randomness.uniform(len(x0), x0.device, "denoising-sigma-noisy")
        offset = randomness.uniform(1, x0.device, "denoising-share")
        sigma = self.denoising_levels(normal, uniform, offset, model.sigma_max)
        noisy = torch.addcmul(x0, expand(sigma, x0), randomness.normal_like(x0, "denoising"))
        with randomness.dropout(x0.device):
            estimate = model.diagonal(noisy, sigma, condition)
        weight = model.parameterization.coefficients(sigma).c_out.square().reciprocal()
        return (weight * mean_square(estimate, self.clean(x0, noisy, sigma, condition))).mean()

    @torch.no_grad()
    def clean(self, x0: Tensor, noisy: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """What the denoising loss aims at: x0, moved by what guidance adds to the teacher's estimate."""
        followed = teachers_condition(condition, self.settings.guidance, x0)
        if followed.guidance is None:
            return x0
        plain = replace(followed, guidance=None)
        with evaluating(self.teacher):
            added = self.teacher.denoise(noisy, sigma, plain) - self.teacher.denoise(noisy, sigma, plain.dropped())
        return x0 + expand(followed.guidance - 1, x0) * added

    def balance(self, model: Model, consistency: Tensor, denoising: Tensor) -> Tensor:
        """``|grad consistency| / |grad denoising|`` at the network's last layer, at most 1e4 (VQGAN's rule)."""
        parameters = [p for p in model.network.parameters() if p.requires_grad]
        last: nn.Parameter = ([p for p in parameters if p.dim() > 1] or parameters)[-1]
        norms = [torch.autograd.grad(v, last, retain_graph=True)[0].norm() for v in (consistency, denoising)]
        return (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach()

    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        self.target.update(model, self.settings.target_decay)
        return None

    def recommended(self) -> Recommended:
        return Recommended(optimizer="radam", learning_rate=4e-4)


def linearized(value: Tensor, at: Tensor) -> Tensor:
    """``value`` with its gradient in ``at``, which is taken now: who asks twice passes only once through what made it."""
    (slope,) = torch.autograd.grad(value, at)
    product = (slope * at).sum()
    return value.detach() + (product - product.detach())
