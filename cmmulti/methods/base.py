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
    """What a run is going to spend: optimiser steps, and items per step over all processes."""

    steps: int
    batch_size: int


class Progress(NamedTuple):
    """How far a run is: optimiser steps done, items seen (``images``), and the ``fraction`` of the budget, in [0, 1)."""

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
        extras: other figures of how training goes, by name; each becomes a column of the log, its mean over samples and
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

    Its state (a target network, a learned weighting) is ordinary modules and buffers, so that it is saved and restored with
    the run. A subclass declares ``settings`` with the type of its own ``Settings``.

    Attributes:
        Settings: the settings that it reads, the keys below ``method:`` in a config. settings: those of this run.
        role: what it trains. paper: where it is from, such as ``arXiv 2206.00364``.
        needs_teacher: whether it distils; teacher_roles: the roles that a teacher may have. teacher: frozen, from
            :meth:`setup` on, where there is need of one.
        networks: how many :meth:`exported` gives.
        sampler: name of the sampler that its model is made for, None for that of its role.
        differentiates: whether it takes the derivative of the network in its time.
        extends: whether a resumed run may be given another number of steps; not where each stage builds on the one before.
        shards: whether FSDP may spread what is trained over processes. The only network that the method then holds is its
            teacher, no copy of the student, and its own weights are in child modules that the loss calls.
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
    settings: MethodSettings
    teacher: Model

    def __init__(self, settings: MethodSettings | None = None) -> None:
        super().__init__()
        self.settings = settings if settings is not None else self.Settings()

    @property
    def guided(self) -> bool:
        """Whether the teacher is guided; teacher and student must then know classes or contexts.

        By default where the settings have a ``guidance`` that is not null: one weight, or a range of weights.
        """
        return getattr(self.settings, "guidance", None) is not None

    @property
    def guides_itself(self) -> bool:
        """Whether the loss evaluates the student without a condition, which it learns by ``label_dropout`` alone."""
        return False

    @property
    def told_guidance(self) -> tuple[float, float] | None:
        """(lowest, highest) guidance weight that the student's network gets as an input, one per sample; None for none."""
        given = getattr(self.settings, "guidance", None)
        return given if isinstance(given, tuple) else None

    @property
    def tells_guidance(self) -> bool:
        """Whether the student's network must take ``condition.guidance`` as an input."""
        return self.told_guidance is not None

    @abstractmethod
    def parameterization(self, sigma_data: float) -> Parameterization:
        """The form in which this method trains a network."""

    def setup(self, model: Model, teacher: Model | None, budget: Budget) -> None:
        """Called once before training, with the student's weights in place.

        Raises:
            UserError: a teacher is needed and there is none, or it is of another role.
        """
        if not self.needs_teacher:
            return
        if teacher is None:
            raise UserError(f"method {type(self).__name__}: needs a teacher; name one with --init or `teacher:`")
        if teacher.role not in self.teacher_roles:
            wanted = "a denoiser (method edm)" if "teacher" in self.teacher_roles else "a consistency model (method ect)"
            raise UserError(f"method {type(self).__name__}: the teacher is a {teacher.role} model, expected {wanted}")
        self.teacher = teacher.requires_grad_(False)

    @abstractmethod
    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        """The loss of one batch.

        Args:
            model: the student. x0: (B, C, *spatial) clean, model space. condition: of the batch, with labels and contexts
                dropped already. progress: of the step that this loss is for. randomness: of everything that is drawn.
        """

    def trainable(self, model: Model) -> Iterator[nn.Parameter]:
        """The student's parameters and the method's own; never the teacher's."""
        yield from model.parameters()

    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        """Called after every optimiser step, which ``progress`` counts: move targets, advance the curriculum.

        Returns what to report, and whether the optimiser is to start anew; None where no stage began.
        """
        return None

    def recommended(self) -> Recommended:
        """The paper's optimiser, averages and clipping: what a config that leaves them open gets."""
        return Recommended()

    def sampling_levels(self, sigma_max: float) -> dict[int, tuple[float, ...]]:
        """Number of steps -> decreasing noise levels, where the method trains for certain ones; empty where it does not."""
        return {}

    def exported(self, model: Model) -> list[Exported]:
        """What generation needs: usually the student alone."""
        return [Exported(model, model.sigma_boundary, model.sigma_max)]
