"""Real images with a smooth phase that is not known: it is estimated again after every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cmmulti.operators.affine import Affine
from cmmulti.operators.base import LinearOperator
from cmmulti.operators.cg import conjugate_gradient
from cmmulti.operators.fourier import Fourier, Phase
from cmmulti.problems.base import Problem, Step, StepResult
from cmmulti.problems.proximal_cg import ProximalCG
from cmmulti.randomness import SampleRandomness


@dataclass(frozen=True, kw_only=True)
class PhaseTracking(ProximalCG):
    """``y = B (exp(i phi) r) + noise`` with a real image ``r = R crop(gain x + offset)`` and phi smooth.

    After each network evaluation the estimate with its present phase is made data-consistent as a complex image; the
    phase of that image, smoothed, is the next phi; :class:`ProximalCG` then runs with it. Its problem comes from
    :meth:`problem`.

    Args:
        acquisition: B, complex images (1, *spatial) -> measurements. arrangement: R, the item's values -> real images.
        measured: y, (parts, *range). phase: the first phi, (parts, 1, *spatial) in radians.
        window: (*spatial), weights of the spatial frequencies (zero at ``n // 2``) that the phase is made of; None keeps
            the first phase.
        affine, model_shape: of the representation.
    """

    acquisition: LinearOperator
    arrangement: LinearOperator
    measured: Tensor
    phase: Tensor
    window: Tensor | None
    affine: Affine
    model_shape: tuple[int, ...]

    def problem(self, noise: float, valid_range: tuple[float, float] | None, padding_value: float) -> Problem:
        """The problem on the representation, with the first phase; ``noise`` per real component of ``measured``."""
        operator = self.acquisition @ Phase(self.phase) @ self.arrangement
        return Problem.on_item(
            operator, self.measured, noise, self, self.affine, self.model_shape, valid_range, padding_value
        )

    def begin(
        self, problem: Problem, x: Tensor, levels: Sequence[float], randomness: SampleRandomness
    ) -> tuple[Tensor, Tensor]:
        return x, self.phase.to(x.device)

    def step(self, problem: Problem, step: Step, state: Tensor) -> StepResult:
        if self.window is None:
            return super().step(problem, step, state)
        phase = self.tracked(self.window, problem.noise, step.x0, step.sigma, state)
        now = replace(self, phase=phase).problem(problem.noise, None, 0.0)
        result = super().step(replace(problem, operator=now.operator, y=now.y), step, None)
        return result._replace(state=phase)

    def tracked(self, window: Tensor, noise: float, x0: Tensor, sigma: float, phase: Tensor) -> Tensor:
        """The smoothed phase of the data-consistent complex image nearest to the estimate with ``phase``."""
        real = self.arrangement(self.affine.to_item(x0))
        image = torch.polar(torch.ones_like(phase), phase) * real
        gain = float(self.affine.gain.abs().mean())
        weight = self.strength * (noise / (gain * sigma)) ** 2
        B = self.acquisition

        def normal(c: Tensor) -> Tensor:
            return B.adjoint(B(c)) + weight * c

        right = B.adjoint(self.measured.to(image.device)) + weight * image
        consistent = conjugate_gradient(normal, right, image, self.iterations)
        F = Fourier(consistent.shape[1:], dims=window.dim())
        return F.adjoint(window.to(image.device) * F(consistent)).angle()
