"""Progressive distillation (Salimans and Ho 2022, arXiv 2202.00512), as the baseline of Consistency Models runs it."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.distances import mean_square
from cmmulti.errors import UserError
from cmmulti.methods.base import Budget, Loss, Method, MethodSettings, Progress, Recommended, StageEvent
from cmmulti.methods.guidance import Weight, teachers_condition
from cmmulti.model import Model, Role, evaluating, expand
from cmmulti.noise import SIGMA_MIN, finest, karras, karras_at
from cmmulti.parameterization import EDM, Parameterization
from cmmulti.randomness import TrainingRandomness


class ProgressiveSettings(MethodSettings):
    """Settings of progressive distillation.

    ``first``: N of the first stage, whose student takes the place of 2 N teacher steps (authors: 4096). ``last``: N of the
    final stage. Both are powers of two. ``guidance``: the weight of the teacher's classifier-free guidance (null:
    none), which the student of the first stage takes over and hands on.
    """

    first: int = Field(64, ge=1)
    last: int = Field(1, ge=1)
    guidance: Weight | None = None


class Progressive(Method):
    """Two steps of a teacher become one of the student, which is the teacher of the next stage.

    ``E w(t) mean (D(x, t) - x~)^2`` with ``x = x0 + t z`` at a level of Karras' curve cut into N intervals, ``x''`` two
    Euler steps of the teacher over one interval, and ``x~ = x - t (x'' - x) / (t'' - t)`` the estimate whose single Euler
    step arrives there (arXiv 2303.01469, section 6; 2202.00512, algorithm 2 and appendix G). ``w = max(1/t^2, 1)``.
    N halves stage by stage; the stages of 2 and 1 last twice as long. The result is made for N steps of the sampler
    ``euler`` at the levels of its last grid; with N = 1 one evaluation at ``sigma_max`` makes a sample.
    """

    Settings = ProgressiveSettings
    settings: ProgressiveSettings
    role: ClassVar[Role] = "teacher"
    needs_teacher = True
    extends = False
    sampler = "euler"
    paper = "arXiv 2202.00512"
    previous: Model

    def parameterization(self, sigma_data: float) -> Parameterization:
        return EDM(sigma_data)

    def setup(self, model: Model, teacher: Model | None, budget: Budget) -> None:
        super().setup(model, teacher, budget)
        s = self.settings
        if s.first & (s.first - 1) or s.last & (s.last - 1) or s.last > s.first:
            raise UserError(f"method.first = {s.first}, method.last = {s.last}: expected powers of two, first >= last")
        # The student of the stage before; the first stage learns from the teacher itself, of any architecture.
        self.previous = copy.deepcopy(model).requires_grad_(False)

    def intervals(self, progress: Progress) -> int:
        """N at this point: ``first``, ``first / 2``, ... ``last``, with two shares of the budget where N is 2 or 1."""
        s = self.settings
        halvings = s.first.bit_length() - s.last.bit_length()
        shares = [n for i in range(halvings + 1) for n in [s.first >> i] * (2 if s.first >> i <= 2 else 1)]
        # A boundary must not depend on how the fraction was rounded, or the change of teacher would be missed.
        return shares[min(int(progress.fraction * len(shares) + 1e-9), len(shares) - 1)]

    def levels(self, index: Tensor, n: int, sigma_max: float) -> tuple[Tensor, Tensor, Tensor]:
        """``t, t', t''`` at ``i/N, (i + 1/2)/N, (i + 1)/N`` of Karras' curve, ``0 <= i < N``, float64 where it can be."""
        at = index.to(finest(index.device))
        start, middle, end = (karras_at((at + part) / n, SIGMA_MIN, sigma_max) for part in (0.0, 0.5, 1.0))
        return start, middle, end

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        settings, n = self.settings, self.intervals(progress)
        index = (randomness.uniform(len(x0), x0.device, "sigma") * n).long()
        levels = self.levels(index, n, model.sigma_max)
        sigma = levels[0].float()
        x = torch.addcmul(x0, expand(sigma, x0), randomness.normal_like(x0))
        if n == settings.first:
            target = self.two_steps(self.teacher, x, levels, teachers_condition(condition, settings.guidance, x0))
        else:
            target = self.two_steps(self.previous, x, levels, condition)
        with randomness.dropout(x0.device):
            estimate = model.denoise(x, sigma, condition)
        weight = sigma.square().reciprocal().clamp_min(1)
        return Loss.mean(weight * mean_square(estimate, target), sigma, levels=n + 1, ratio=(levels[2] / levels[0]).float())

    @torch.no_grad()
    def two_steps(self, teacher: Model, x: Tensor, levels: tuple[Tensor, Tensor, Tensor], condition: Condition) -> Tensor:
        """The clean estimate at ``t`` whose one Euler step to ``t''`` equals two of the teacher's, over ``t'``.

        Written out, ``x~`` is a mean of the teacher's two estimates; the quotient of differences, which is the same, loses
        its digits where intervals are short.
        """
        start, middle, end = levels
        first_share = (end * (start - middle) / (middle * (start - end))).to(x)
        sigma, between, ratio = start.to(x), middle.to(x), (middle / start).to(x)
        with evaluating(teacher):
            one = teacher.denoise(x, sigma, condition)
            other = teacher.denoise(one + expand(ratio, x) * (x - one), between, condition)
        return other + expand(first_share, x) * (one - other)

    @torch.no_grad()
    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        n = self.intervals(progress)
        if n == self.intervals(progress.before()):
            return None
        # By position: compiled or wrapped modules carry other names.
        held, current = ([*m.parameters(), *m.buffers()] for m in (self.previous, model))
        for mine, theirs in zip(held, current, strict=True):
            mine.copy_(theirs)
        return StageEvent(f"progressive distillation: {2 * n} steps into {n}", reset_optimizer=True)

    def sampling_levels(self, sigma_max: float) -> dict[int, tuple[float, ...]]:
        last = self.settings.last
        return {last: tuple(karras(last + 1, SIGMA_MIN, sigma_max).tolist()[:-1])}

    def recommended(self) -> Recommended:
        return Recommended(optimizer="adam", learning_rate=5e-5, ema=(0.005, 0.01), clip=1.0)
