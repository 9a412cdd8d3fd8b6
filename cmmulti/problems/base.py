"""The contract between samplers and problems.

A sampler proposes clean estimates; a problem pulls them to the measurements. It takes part at three points: ``begin``,
``step`` after each network evaluation, and ``finish``. No sampler knows a solver, and no solver knows a sampler.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.model import Model
from cmmulti.operators.affine import Affine
from cmmulti.operators.base import LinearOperator
from cmmulti.randomness import SampleRandomness


class Noised(NamedTuple):
    """Start from a clean tensor (B, C, *spatial) that is noised to the first level: strokes, interpolation, A^+ y."""

    clean: Tensor


Start = Sequence[int] | Tensor | Noised
"""A shape; unit noise (B, C, *spatial), scaled to the first level; or a clean tensor to be noised to it."""


def first_state(start: Start, levels: Sequence[float], randomness: SampleRandomness, model: Model) -> Tensor:
    """The noisy tensor at ``levels[0]`` that a sampler begins with."""
    if isinstance(start, Noised):
        clean = start.clean.to(model.device)
        return clean + levels[0] * randomness.normal(clean.shape, clean.device)
    if isinstance(start, Tensor):
        return levels[0] * start.to(model.device)
    return levels[0] * randomness.normal(tuple(start), model.device)


class Step(NamedTuple):
    """What a problem sees after one network evaluation.

    ``x`` (B, C, *spatial) was at level ``sigma``; ``x0`` is the estimate; the sampler is going to ``sigma_next`` (0 at the
    end). ``x0`` has a gradient to ``x`` where the problem's solver needs one.
    """

    x: Tensor
    sigma: float
    sigma_next: float
    x0: Tensor
    model: Model
    condition: Condition
    randomness: SampleRandomness


class StepResult(NamedTuple):
    """A problem's answer after one network evaluation.

    Args:
        x0: the corrected estimate (B, C, *spatial). x_next: the tensor at ``sigma_next``; None: the sampler re-noises by
            its own rule. sigma_told: the level that the network is told next; None for the true one.
        state: what the solver wants back at the next step.
    """

    x0: Tensor
    x_next: Tensor | None = None
    sigma_told: float | None = None
    state: Any = None


@dataclass(frozen=True)
class Solver(ABC):
    """How a problem is imposed; its fields are its whole configuration. All tensors are in model space."""

    needs_gradient: ClassVar[bool] = False
    """Whether ``step.x0`` must have a gradient to ``step.x``, through the network."""
    wants_mean: ClassVar[bool] = False
    """Whether ``step.x0`` stands for the posterior mean: a model of two times, which knows mean and end, gives the mean."""

    def begin(
        self, problem: Problem, x: Tensor, levels: Sequence[float], randomness: SampleRandomness
    ) -> tuple[Tensor, Any]:
        """The first noisy tensor and the state, before the first evaluation.

        Args:
            x: (B, C, *spatial) the tensor at ``levels[0]`` that the sampler would begin with. levels: all that it visits.
            randomness: a stream of the problem's own: drawing from it leaves the sampler's noise as it is.
        """
        return x, None

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        """The correction after each evaluation; ``step.x0`` is inside the valid range, its padding known."""
        return StepResult(step.x0, state=state)

    def finish(self, problem: Problem, x0: Tensor, state: Any) -> Tensor:
        """The answer (B, C, *spatial), given the last corrected estimate ``x0``."""
        return x0


@dataclass(frozen=True)
class Problem:
    """``y = A x + noise`` on the model's representation, and the solver that imposes it.

    Args:
        operator: A on model tensors (C, *spatial). y: (B or 1, *operator.range).
        noise: standard deviation of the measurement noise, per real component, in the units of y; 0 for exact.
        solver: how it is imposed.
        valid_range: the representation's smallest and largest value; estimates are clamped to it. None: no limit.
        padding: (B or 1, 1 or C, *spatial) bool, true where the tensor is padding, and the value it has there: known.
    """

    operator: LinearOperator
    y: Tensor
    noise: float
    solver: Solver
    valid_range: tuple[float, float] | None = None
    padding: tuple[Tensor, float] | None = None

    @classmethod
    def on_item(
        cls,
        operator: LinearOperator,
        y: Tensor,
        noise: float,
        solver: Solver,
        affine: Affine,
        model_shape: Sequence[int],
        valid_range: tuple[float, float] | None = None,
        padding_value: float = 0.0,
    ) -> Problem:
        """The problem ``y = A(item) + noise`` in physical units, carried over to the representation.

        ``A_x = A . crop . gain`` and ``y_x = y - A(crop(offset))``; the noise is unchanged.
        """
        offset = affine.offset.expand(len(affine.offset), operator.domain[0], *affine.size)
        shifted = y - operator(offset.to(y.device, y.real.dtype if y.is_complex() else y.dtype))
        inside = affine.inside(model_shape[1:])
        padding = None if bool(inside.all()) else (~inside, padding_value)
        return cls(operator @ affine.operator(model_shape), shifted, noise, solver, valid_range, padding)

    @property
    def needs_gradient(self) -> bool:
        return self.solver.needs_gradient

    @property
    def wants_mean(self) -> bool:
        return self.solver.wants_mean

    def begin(self, x: Tensor, levels: Sequence[float], randomness: SampleRandomness) -> tuple[Tensor, Any]:
        return self.solver.begin(self, x, levels, randomness)

    def step(self, step: Step, state: Any) -> StepResult:
        return self.solver.step(self, step._replace(x0=self.admissible(step.x0)), state)

    def finish(self, x0: Tensor, state: Any) -> Tensor:
        return self.admissible(self.solver.finish(self, x0, state))

    def admissible(self, x0: Tensor) -> Tensor:
        """``x0`` with its padding at the known value and clamped to the valid range."""
        if self.valid_range is not None:
            x0 = x0.clamp(*self.valid_range)
        if self.padding is not None:
            where, value = self.padding
            x0 = x0.masked_fill(where.to(x0.device), value)
        return x0

    def projected(self, x0: Tensor) -> Tensor:
        """The point nearest to ``x0`` that agrees with exact measurements: ``x0 + A^+ (y - A x0)``."""
        return x0 + self.operator.pinv(self.measurements(x0) - self.operator(x0))

    def measurements(self, like: Tensor) -> Tensor:
        """y on the device of ``like``."""
        return self.y.to(like.device)
