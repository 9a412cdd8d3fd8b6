"""The contract of a training method.

A method knows its paper's loss and schedule. It never touches devices, loggers or optimisers: the training loop asks it
what to minimise, which parameters to move, and what to change between steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from cmmulti.conditioning import Condition
from cmmulti.errors import UserError
from cmmulti.model import Model, Role
from cmmulti.parameterization import Parameterization
from cmmulti.randomness import TrainingRandomness


class Budget(NamedTuple):
    """What a run is going to spend: optimiser steps, and images per step over all processes."""

    steps: int
    batch_size: int


class Progress(NamedTuple):
    """How far a run is: optimiser steps done, images seen, and ``fraction`` of the budget in [0, 1)."""

    step: int
    images: int
    fraction: float

    def before(self) -> Progress:
        """One optimiser step ago."""
        share = max(self.step - 1, 0) / max(self.step, 1)
        return Progress(max(self.step - 1, 0), round(self.images * share), self.fraction * share)


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, and where it came from.

    Args:
        value: scalar with gradient.
        sigma: (B,) noise level of each sample. per_sample: (B,) its loss; both detached, for logs per noise level.
        extras: what else tells how training fares, by name; each becomes a column of the log, its mean over samples and
            steps. Detached tensors of any shape, or plain numbers; nothing is read from a device before a row is written.
            Names that several methods share: ``levels`` (N of a grid), ``stage``, ``ratio`` (of the two levels of a pair,
            lower over upper), ``tangent_norm`` (of the derivative's target, before it is limited), ``warmup``.
    """

    value: Tensor
    sigma: Tensor
    per_sample: Tensor
    extras: Mapping[str, Tensor | float] = field(default_factory=dict)

    @classmethod
    def mean(cls, per_sample: Tensor, sigma: Tensor, **extras: Tensor | float) -> Loss:
        """The mean over a batch."""
        return cls(per_sample.mean(), sigma.detach(), per_sample.detach(), extras)


class StageEvent(NamedTuple):
    """A method passed from one stage to the next."""

    message: str
    reset_optimizer: bool = False


@dataclass(frozen=True)
class Recommended:
    """The paper's training settings, as defaults of a config.

    Args:
        ema: half-lives of the tracked averages, in fractions of the budget. clip: gradient norm clip, 0 for none.
    """

    optimizer: str = "radam"
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    ema: tuple[float, ...] = (0.01, 0.05)
    clip: float = 0.0


class MethodSettings(BaseModel):
    """Base of a method's settings: the keys below ``method:`` in a config. Numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Exported(NamedTuple):
    """One network of the trained result and the noise levels ``[sigma_low, sigma_high]`` that it serves."""

    model: Model
    sigma_low: float
    sigma_high: float


class Method(nn.Module, ABC):
    """One training method.

    Class attributes say what it makes (``role``), whether it needs a teacher and of which roles, and which settings it
    reads. Its state (a target network, a learned weighting) is ordinary modules and buffers, so that it is saved and
    restored with the run.
    ``sampler``: the one that its model is made for, None for that of its role. ``differentiates``: it takes the derivative
    of the network in its time.
    ``extends``: a resumed run may be given another number of steps; not so where each stage builds on the one before.
    ``networks``: how many :meth:`exported` gives. ``shards``: FSDP may spread what is trained over processes. Of
    networks the method then holds its teacher alone, no copy of the student; weights of its own are in child modules that
    the loss calls.
    """

    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    role: ClassVar[Role]
    needs_teacher: ClassVar[bool] = False
    teacher_roles: ClassVar[tuple[Role, ...]] = ("teacher", "two-time")
    shards: ClassVar[bool] = False
    sampler: ClassVar[str | None] = None
    differentiates: ClassVar[bool] = False
    extends: ClassVar[bool] = True
    networks: ClassVar[int] = 1
    paper: ClassVar[str]

    def __init__(self, settings: MethodSettings | None = None) -> None:
        super().__init__()
        self.settings = settings if settings is not None else self.Settings()

    @property
    def guided(self) -> bool:
        """Whether the teacher is guided by classes, which both must know then."""
        return False

    @property
    def guides_itself(self) -> bool:
        """Whether the loss asks the student for answers without a condition, which only ``label_dropout`` trains."""
        return False

    @property
    def told_guidance(self) -> tuple[float, float] | None:
        """The range of guidance weights that the student's network is told, one per sample; None where it is told none."""
        given = getattr(self.settings, "guidance", None)
        return given if isinstance(given, tuple) else None

    @property
    def tells_guidance(self) -> bool:
        """Whether the student's network must hear ``condition.guidance``."""
        return self.told_guidance is not None

    @abstractmethod
    def parameterization(self, sigma_data: float) -> Parameterization:
        """The form in which this method trains a network."""

    def setup(self, model: Model, teacher: Model | None, budget: Budget) -> None:
        """Called once before training, with the student's weights in place."""
        if self.needs_teacher and teacher is None:
            raise UserError(f"method {type(self).__name__}: needs a teacher; name one with --init or `teacher:`")
        if self.needs_teacher and teacher is not None and teacher.role not in self.teacher_roles:
            wanted = "a denoiser (method edm)" if "teacher" in self.teacher_roles else "a consistency model (method ect)"
            raise UserError(f"method {type(self).__name__}: the teacher is a {teacher.role} model, expected {wanted}")

    @abstractmethod
    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        """The loss of one batch ``x0`` (B, C, *spatial), clean, model space."""

    def trainable(self, model: Model) -> Iterator[nn.Parameter]:
        """The student's parameters and the method's own; never the teacher's."""
        yield from model.parameters()

    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        """Called after every optimiser step: move targets, advance the curriculum."""
        return None

    def recommended(self) -> Recommended:
        return Recommended()

    def sampling_levels(self, sigma_max: float) -> dict[int, tuple[float, ...]]:
        """Noise levels of a sampler by number of steps, where the method was trained for certain ones."""
        return {}

    def exported(self, model: Model) -> list[Exported]:
        """What generation needs: usually the student alone."""
        return [Exported(model, model.sigma_boundary, model.sigma_max)]
