"""Everything that a run can be told, with every default. This is the reference of configs.

A default of ``None`` is filled in by :func:`cmmulti.config.resolve.resolve`: from the method's paper, from the adapter, or
from the data. The resolved config, saved beside the run, has no such gaps but for those that mean "none".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator


class Section(BaseModel):
    """Base of every section: unknown keys are mistakes, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PieceConfig(BaseModel):
    """A registered piece: its name, and its own settings beside it, which the piece itself checks."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any]) -> Self:
        """The piece ``name`` with these settings."""
        return cls.model_validate({"name": name, **settings})

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class DataConfig(Section):
    """``data:`` which data, and how it is fed.

    ``name``: a data set, or ``folder``. ``root``: the folder that holds data sets (or the files); null reads
    ``CMMULTI_DATA``. ``options``: further settings of the data set. ``batch_size``: items per optimiser step, over all
    devices and accumulated batches. ``workers``: loading processes per device. ``on_bad_file``: ``error`` or ``skip``.
    ``context``: a file with numbers of each item that the model is conditioned on, a table (``.csv``) or arrays (``.npz``,
    ``.safetensors``); see :func:`cmmulti.contexts.read_contexts`.
    """

    name: str
    root: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    workers: NonNegativeInt = 0
    on_bad_file: Literal["error", "skip"] = "error"
    context: Path | None = None


class JointDataConfig(Section):
    """``joint.NAME.data:`` as ``data:``; null for ``root`` and ``batch_size`` takes those of ``data:``."""

    name: str
    root: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    batch_size: int | None = Field(default=None, ge=1, le=1_000_000)
    on_bad_file: Literal["error", "skip"] = "error"

    def beside(self, data: DataConfig) -> DataConfig:
        """The whole section that this one stands for."""
        told = {"root": self.root or data.root, "batch_size": self.batch_size or data.batch_size}
        return data.model_copy(update=self.model_dump() | told)


class JointConfig(Section):
    """One of ``joint:``, a further modality that the same model learns."""

    modality: PieceConfig
    data: JointDataConfig


class OptimizerConfig(Section):
    """``optimizer:`` null is the method's recommendation.

    ``warmup_steps``: linear rise from 0. ``decay``: of the rate after the fraction ``decay_start`` of the budget, or after
    the warm-up where that ends later: ``linear`` or ``cosine`` down to 0 at the end, ``inverse-sqrt`` as
    1 / sqrt(step / step where it begins).
    ``implementation``: of the update: ``foreach`` takes many weights per kernel, ``fused`` one kernel (not radam), ``loop``
    one weight at a time.
    """

    name: Literal["radam", "adam", "adamw"] | None = None
    learning_rate: float | None = Field(default=None, gt=0)
    betas: tuple[float, float] | None = None
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: NonNegativeInt = 0
    decay: Literal["constant", "linear", "cosine", "inverse-sqrt"] = "constant"
    decay_start: float = Field(default=0.0, ge=0, lt=1)
    implementation: Literal["foreach", "fused", "loop"] = "foreach"

    @model_validator(mode="after")
    def _consistent(self) -> OptimizerConfig:
        if self.betas is not None and not all(0 <= b < 1 for b in self.betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {list(self.betas)}")
        if self.decay == "inverse-sqrt" and self.decay_start == 0:
            raise ValueError("decay: inverse-sqrt needs decay_start above 0")
        return self


LOWEST = 0.002
"""The end of the grids of levels that methods train on (arXiv 2303.01469, appendix C), which ``sigma_max`` lies above."""

SIGMA_LIMIT = 1_000_000.0
"""The highest noise level that the config of a model may have."""

WIDEST = 12**-0.5
"""What the relative width of a power-function average stays below: that of the plain mean over the run."""


class EMAConfig(Section):
    """``ema:`` averages of the weights, all tracked at once.

    ``half_lives``: of exponential averages, in fractions of the budget; null is the method's recommendation.
    ``sigma_rel``: relative widths of power-function averages (EDM2, arXiv 2312.02696); null is none, or 0.05 and 0.1 where
    snapshots are taken. ``snapshots``: how many times in the budget those are kept, in half precision, from which
    ``cmmulti export --ema-sigma-rel`` makes any other width; 16 match widths of 0.05 to 0.15 within 1 %.
    ``ramp``: half-lives are at most this fraction of the steps done, 0 for no ramp; not used by a run that starts from a
    trained model.
    ``export``: the profile that previews and ``cmmulti export`` use (``half-life-0.05``, ``sigma-rel-0.1``, ``raw`` for
    the weights themselves); null is the last half-life, or the last width where there is no half-life.
    """

    half_lives: tuple[float, ...] | None = None
    sigma_rel: tuple[float, ...] | None = None
    snapshots: int = Field(default=0, ge=0, le=10_000)
    ramp: float = Field(default=0.05, ge=0, le=1)
    export: str | None = None

    @model_validator(mode="after")
    def _ranges(self) -> EMAConfig:
        if any(not 0 < h <= 1 for h in self.half_lives or ()):
            raise ValueError(f"half_lives: expected fractions of the budget in (0, 1], got {list(self.half_lives or ())}")
        if any(not 0 < s < WIDEST for s in self.sigma_rel or ()):
            raise ValueError(f"sigma_rel: expected widths in (0, {WIDEST:.4f}), got {list(self.sigma_rel or ())}")
        if self.snapshots and self.sigma_rel == ():
            raise ValueError(f"snapshots = {self.snapshots}: expected at least one width in sigma_rel to keep them of")
        return self


class TrainerConfig(Section):
    """``trainer:`` how long and on what.

    ``max_steps``: optimiser steps, the budget. ``seed``: of everything random. ``accelerator``: ``auto`` takes a GPU where
    there is one. ``devices`` per node and ``nodes``; ``strategy`` ``auto`` is one device, or DDP for several.
    ``precision``: ``bf16-mixed`` computes networks in bfloat16. ``accumulate``: batches per optimiser step.
    ``clip``: largest gradient norm, 0 for none, null is the method's recommendation. ``nonfinite``: steps without a finite
    gradient, which are left out, that the run goes on after. ``compile``: ``torch.compile`` of the network.
    ``channels_last``: convolution weights lie in memory as the U-Net's activations do. ``threads``: CPU threads, null
    leaves PyTorch's choice.
    """

    max_steps: int = Field(default=10_000, ge=1, le=1_000_000_000)
    seed: NonNegativeInt = 0
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: PositiveInt = 1
    nodes: PositiveInt = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accumulate: PositiveInt = 1
    clip: float | None = Field(default=None, ge=0)
    nonfinite: NonNegativeInt = 20
    compile: bool = False
    channels_last: bool = False
    threads: int | None = Field(default=None, ge=1, le=1024)


class CheckpointConfig(Section):
    """``checkpoint:`` one every ``every_steps`` and at the end; the newest ``keep`` stay."""

    every_steps: PositiveInt = 1000
    keep: PositiveInt = 2


class PreviewConfig(Section):
    """``preview:`` ``n`` samples every ``every_steps`` (0: none), from seeds ``seed .. seed + n - 1``.

    ``steps``: noise levels of each preview, one set of files per entry; null is 1 and 2, 18 for a teacher, or
    what the method is made for.
    """

    every_steps: NonNegativeInt = 1000
    n: PositiveInt = 8
    steps: tuple[PositiveInt, ...] | None = None
    seed: NonNegativeInt = 0


class ValidationConfig(Section):
    """``validation:`` figures of quality on ``n`` items of the validation split, before the first step, every
    ``every_steps`` (0: none) and at the end, in ``validation.csv`` and TensorBoard."""

    every_steps: NonNegativeInt = 500
    n: PositiveInt = 32


class LogConfig(Section):
    """``log:`` a row in ``log.csv`` and a point in TensorBoard every ``every_steps``."""

    every_steps: PositiveInt = 50
    tensorboard: bool = True


class RunConfig(Section):
    """A whole run.

    ``label_dropout``: share of the labels, and of the contexts, that are dropped, so that the model also learns samples
    without them. Where there are both, half of them are dropped together and half each on its own.
    ``sigma_data``: standard deviation of the training tensors; null measures it, or is that of ``init``.
    ``sigma_max``: highest noise level.
    ``init``: a model folder or shipped name whose weights the student starts from. ``teacher``: one that is distilled;
    null is ``init``. ``joint``: further modalities by name, for one model of several; each step's batch is of one of them.
    """

    modality: PieceConfig
    data: DataConfig
    joint: dict[str, JointConfig] = Field(default_factory=dict)
    network: PieceConfig = PieceConfig(name="unet")
    method: PieceConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EMAConfig = EMAConfig()
    trainer: TrainerConfig = TrainerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    preview: PreviewConfig = PreviewConfig()
    validation: ValidationConfig = ValidationConfig()
    log: LogConfig = LogConfig()
    label_dropout: float = Field(default=0.1, ge=0, le=1)
    sigma_data: float | None = Field(default=None, gt=0)
    sigma_max: float = Field(default=80.0, gt=LOWEST, le=SIGMA_LIMIT)
    init: str | None = None
    teacher: str | None = None

    @model_validator(mode="after")
    def _shares(self) -> RunConfig:
        parts = self.trainer.devices * self.trainer.nodes * self.trainer.accumulate
        sizes = {"data": self.data.batch_size}
        sizes |= {f"joint.{name}.data": part.data.beside(self.data).batch_size for name, part in self.joint.items()}
        for where, size in sizes.items():
            if size % parts:
                raise ValueError(
                    f"{where}.batch_size = {size}: expected a multiple of devices * nodes * accumulate = {parts}"
                )
        if self.joint and self.data.context is not None:
            raise ValueError(f"data.context = {str(self.data.context)!r}: expected none for a model of several modalities")
        if self.data.name in self.joint:
            raise ValueError(f"joint.{self.data.name}: the name of data.name; expected another")
        return self

    @property
    def processes(self) -> int:
        """Training processes over all nodes."""
        return self.trainer.devices * self.trainer.nodes
