"""What ``config.json`` of a model folder says, and the model that it describes."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from cmmulti import registry
from cmmulti.config.checking import checked
from cmmulti.config.schema import LOWEST, SIGMA_LIMIT
from cmmulti.contexts import ContextScale
from cmmulti.errors import REFUSALS, UserError
from cmmulti.modality import Modality
from cmmulti.model import Model, Role
from cmmulti.noise import SIGMA_MAX, few_step_levels, karras
from cmmulti.parameterization import DDPM, Parameterization, parameterization
from cmmulti.pipeline.arguments import whole
from cmmulti.ranged import Span, joined

FORMAT = 1
WEIGHTS, LOWER = "model.safetensors", "lower-{}.safetensors"


class Piece(BaseModel):
    """A registered piece and its settings."""

    model_config = ConfigDict(extra="forbid")
    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


class LowerNetwork(BaseModel):
    """A network that serves the levels below ``sigma_high``, down to those of the one before it."""

    model_config = ConfigDict(extra="forbid")
    sigma_high: float = Field(gt=0, allow_inf_nan=False)
    network: Piece
    parameterization: Piece


class PipelineConfig(BaseModel):
    """What ``config.json`` holds.

    ``levels``: searched noise levels per number of steps; others are computed. ``classes``: a name per label.
    ``evaluation_batch``: most samples per network call. ``sigma_data``: standard deviation of the training tensors.
    ``lower``: networks that serve lower levels in place of ``network``, from the lowest. ``modality_index``: what a network
    of several modalities is told for this one; its labels begin at ``first_label`` among those of all. ``context``: what
    contexts the network takes, and their scale; None where it takes none. ``guidance``: the range of guidance weights that
    the network was told in training; None where it was told none. ``sampler``: name of the one that the model was made
    for, None for that of its role. ``unconditional``: it has learned samples without a label or context too, which is what
    guidance strengthens against. ``data``: the data set that it was trained on and its options, which say what was held
    out; None where that is not known.
    """

    model_config = ConfigDict(extra="forbid")
    format: int = FORMAT
    name: str = "unnamed"
    modality: Piece
    network: Piece
    parameterization: Piece
    role: Role
    method: str = ""
    sigma_data: float = Field(0.5, gt=0, allow_inf_nan=False)
    sigma_max: float = Field(SIGMA_MAX, gt=LOWEST, le=SIGMA_LIMIT, allow_inf_nan=False)
    levels: dict[int, list[float]] = Field(default_factory=dict)
    classes: list[str] = Field(default_factory=list)
    evaluation_batch: int | None = Field(32, ge=1)
    lower: list[LowerNetwork] = Field(default_factory=list)
    modality_index: int | None = Field(None, ge=0)
    first_label: int = Field(0, ge=0)
    context: ContextScale | None = None
    guidance: tuple[float, float] | None = None
    sampler: str | None = None
    unconditional: bool = True
    data: Piece | None = None

    @model_validator(mode="after")
    def _same_classes(self) -> PipelineConfig:
        for piece in self.files.values():
            known = piece.settings.get("classes", len(self.classes))
            if not isinstance(known, int):
                raise ValueError(f"network.settings.classes: expected a number, got {known!r}")
            if self.modality_index is not None and self.first_label + len(self.classes) <= known:
                continue  # other modalities have the others
            if self.classes and known != len(self.classes):
                raise ValueError(
                    f"classes: expected as many names as network.settings.classes = {known}, got {len(self.classes)}"
                )
        return self

    @model_validator(mode="after")
    def _same_context(self) -> PipelineConfig:
        width = 0 if self.context is None else self.context.width
        known = self.network.settings.get("context_width", width)
        if self.context is not None and known != width:
            raise ValueError(f"context: tokens of {width} features; network.settings.context_width says {known!r}")
        return self

    @model_validator(mode="after")
    def _weights(self) -> PipelineConfig:
        if self.guidance is not None and not 0 <= self.guidance[0] <= self.guidance[1] < math.inf:
            raise ValueError(f"guidance: expected two weights, 0 <= low <= high, got {list(self.guidance)}")
        return self

    @model_validator(mode="after")
    def _ascending(self) -> PipelineConfig:
        ends = [*(part.sigma_high for part in self.lower), self.sigma_max]
        if any(low >= high for low, high in zip(ends[:-1], ends[1:], strict=True)):
            raise ValueError(f"lower: expected ascending sigma_high below sigma_max = {self.sigma_max:g}, got {ends[:-1]}")
        return self

    @property
    def files(self) -> dict[str, Piece]:
        """The file of each network's weights, and the network: that of the highest levels, then from the lowest."""
        return {WEIGHTS: self.network} | {LOWER.format(i): part.network for i, part in enumerate(self.lower, 1)}

    @property
    def plain_guidance(self) -> float | None:
        """The weight for a network that takes one as an input, where none is asked for: of its range the nearest to 1."""
        return None if self.guidance is None else min(max(1.0, self.guidance[0]), self.guidance[1])

    @property
    def conditional(self) -> bool:
        """Whether the model knows anything that guidance could strengthen: classes or contexts."""
        return bool(self.classes) or self.context is not None

    def levels_of(self, steps: int) -> list[float]:
        """Noise levels of generation in ``steps`` evaluations: those that were searched, where there are any."""
        steps = whole("steps", steps, 1)
        if steps in self.levels:
            return list(self.levels[steps])
        if self.role == "teacher":
            return [float(v) for v in karras(steps, sigma_max=self.sigma_max)]
        return few_step_levels(steps, self.sigma_max)

    def build_modality(self) -> Modality:
        adapter = registry.load("modalities", self.modality.name)
        modality: Modality = adapter(checked(adapter.Settings, self.modality.settings, f"modality {self.modality.name}"))
        return modality

    def build_model(self) -> Model:
        """The model with fresh weights."""
        top = LowerNetwork(sigma_high=self.sigma_max, network=self.network, parameterization=self.parameterization)
        spans: list[Span] = []
        for part in (*self.lower, top):
            network, form = build_network(part.network), build_form(part.parameterization, part.sigma_high)
            model = Model(network, form, self.role, part.sigma_high, self.evaluation_batch)
            spans.append((model, spans[-1][2] if spans else form.sigma_boundary, part.sigma_high))
        return joined(spans)


def build_form(piece: Piece, sigma_max: float) -> Parameterization:
    """The parameterization of that name, refused where it gives no numbers at ``sigma_max`` or was never trained there."""
    try:
        form = parameterization(piece.name, **piece.settings)
        finite = all(bool(c.isfinite().all()) for c in form.coefficients(torch.tensor([sigma_max])))
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"parameterization {piece.name}: {error} (settings {piece.settings})") from error
    if not finite:
        raise UserError(f"parameterization {piece.name}: settings {piece.settings} give no finite coefficients")
    if isinstance(form, DDPM) and sigma_max > form.sigma_max * (1 + 1e-6):
        # Above it the network would be told its last time, for a tensor noisier than any that it knows.
        told = f"expected at most {form.sigma_max:g}, the last level of the schedule of parameterization {piece.name}"
        raise UserError(f"sigma_max = {sigma_max:g}: {told}")
    if form.sigma_boundary >= sigma_max:
        told = f"boundary at sigma = {form.sigma_boundary:g}: expected one below {sigma_max:g}, the highest level"
        raise UserError(f"parameterization {piece.name}: {told}")
    return form


def build_network(piece: Piece) -> nn.Module:
    """The registered network of that name; a setting it does not know, or cannot take, is the user's error."""
    maker = registry.load("networks", piece.name)
    try:
        network: nn.Module = maker(**piece.settings)
    except REFUSALS as error:
        told = str(error) or type(error).__name__
        raise UserError(f"network {piece.name}: {told} (settings {piece.settings})") from error
    return network
