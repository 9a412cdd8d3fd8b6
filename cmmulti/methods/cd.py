"""Consistency distillation: CD (Song et al. 2023, arXiv 2303.01469, algorithm 2)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.methods.base import Budget, Loss, Method, MethodSettings, Progress, Recommended, StageEvent
from cmmulti.methods.distance import TrainingDistance, distance_of
from cmmulti.methods.guidance import Guidance, Weight, students_condition, teachers_condition
from cmmulti.methods.solver import Solver, teacher_step
from cmmulti.methods.target import Target
from cmmulti.model import Model, Role, expand
from cmmulti.noise import karras
from cmmulti.parameterization import Consistency, Parameterization
from cmmulti.randomness import TrainingRandomness


class CDSettings(MethodSettings):
    """Settings of CD; the defaults are the authors' for CIFAR-10, but for the distance and the target.

    ``levels``: N of Karras' grid (ImageNet-64: 40). ``solver``: the teacher's step, one or two evaluations.
    ``target_decay``: mu of the target's average; 0 takes the student itself, theirs for CIFAR-10, which was unstable with
    distances of elements. ``distance``: of elements, or of a feature network, as LPIPS, which is theirs.
    ``guidance``: the weight of the teacher's classifier-free guidance, which doubles its evaluations (null: none),
    or a range of weights, each an input of the student (``network.guided: true``).
    """

    levels: int = Field(18, ge=2)
    solver: Solver = "heun"
    target_decay: float = Field(0.95, ge=0, lt=1)
    distance: TrainingDistance = "huber"
    guidance: Weight | Guidance | None = None


class CD(Method):
    """A student learns to give one answer along each of the teacher's trajectories.

    ``E d(f(x, s_i), sg f^-(x', s_{i+1}))`` with ``x = x0 + s_i z``, i uniform, and x' one solver step of the teacher's ODE
    from x down to ``s_{i+1}``. The error of a step bounds the student's: Heun at equal N is the closer.
    """

    Settings = CDSettings
    settings: CDSettings
    role: ClassVar[Role] = "consistency"
    needs_teacher = True
    paper = "arXiv 2303.01469"
    target: Target
    levels: Tensor

    def parameterization(self, sigma_data: float) -> Parameterization:
        return Consistency(sigma_data=sigma_data)

    def setup(self, model: Model, teacher: Model | None, budget: Budget) -> None:
        super().setup(model, teacher, budget)
        self.distance = distance_of(self.settings.distance)
        self.target = Target(model, self.settings.target_decay > 0)
        # A buffer goes where the run goes; a grid made in the loss would be copied from the host at every step.
        self.register_buffer("levels", self.grid(model).float(), persistent=False)

    def grid(self, model: Model) -> Tensor:
        """Decreasing levels, float64, from which neighbours are drawn."""
        return karras(self.settings.levels, model.sigma_boundary, model.sigma_max)

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        settings = self.settings
        draw = randomness.generator("sigma", x0.device)
        index = torch.randint(len(self.levels) - 1, (len(x0),), generator=draw, device=x0.device)
        sigma, sigma_next = self.levels[index], self.levels[index + 1]
        x = torch.addcmul(x0, expand(sigma, x0), randomness.normal_like(x0))
        condition = students_condition(condition, settings.guidance, randomness, x0)
        followed = teachers_condition(condition, settings.guidance, x0)
        x_next = teacher_step(self.teacher, x, sigma, sigma_next, followed, settings.solver)
        with randomness.dropout(x0.device):
            student = model.endpoint(x, sigma, condition)
        with randomness.dropout(x0.device):
            target = self.target.endpoint(model, x_next, sigma_next, condition)
        apart = self.distance(student, target)
        return Loss.mean(apart, sigma, levels=len(self.levels), ratio=sigma_next / sigma)

    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        self.target.update(model, self.settings.target_decay)
        return None

    def recommended(self) -> Recommended:
        return Recommended(optimizer="radam", learning_rate=4e-4)
