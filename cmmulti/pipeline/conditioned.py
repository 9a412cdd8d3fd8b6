"""What a pipeline tells its network: classes, contexts, a guidance weight, which of several modalities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor

from cmmulti.conditioning import NULL_LABEL, Condition
from cmmulti.contexts.scale import Context
from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.pipeline.config import PipelineConfig

NEVER_WITHOUT = "never learned samples without one (label_dropout = 0, or guidance of its own in training)"


class Conditioned:
    """The part of a pipeline that turns what users ask for into conditions of its model."""

    model: Model
    config: PipelineConfig

    def labels_for(self, seeds: Sequence[int], labels: Sequence[int | None] | None) -> list[int | None]:
        """The class of each sample, checked; ``seed mod classes`` where nothing was asked for."""
        classes = len(self.config.classes)
        if labels is None:
            return [s % classes if classes else None for s in seeds]
        if len(labels) != len(seeds):
            raise UserError(f"labels: expected one for each of {len(seeds)} seeds, got {len(labels)}")
        return [None if label is None else self._label(label) for label in labels]

    def _label(self, label: Any) -> int:
        """A class as an ``int``."""
        classes = len(self.config.classes)
        try:
            number = index(label)
        except TypeError:
            number = -1
        if not 0 <= number < classes:
            expected = f"0 to {classes - 1}" if classes else "none: this model knows no classes"
            raise UserError(f"label: expected {expected}, got {label!r}")
        return number

    def contexts_for(self, seeds: Sequence[int], context: Context | None) -> Tensor | None:
        """The context of each sample (n, tokens, width) as the network is told it; None where nothing was asked for.

        Of several, as a file may hold, a sample has number ``seed mod count``.
        """
        if context is None:
            return None
        if self.config.context is None:
            raise UserError("context: expected none: this model knows no contexts")
        given = self.config.context.given(context)
        return given[torch.tensor([s % len(given) for s in seeds], dtype=torch.int64)]

    def condition(
        self, labels: Sequence[int | None], guidance: float | None = None, contexts: Tensor | None = None
    ) -> Condition:
        """What the network is told of samples of these classes and contexts, and which of several modalities they are of.

        ``contexts`` (n, tokens, width) are those of :meth:`contexts_for`. A network that takes a guidance weight as
        an input always gets one: it never learned to do without.
        """
        n, index, first = len(labels), self.config.modality_index, self.config.first_label
        if not self.config.unconditional:
            self._check_given(labels, contexts)
        if guidance is not None:
            self.check_guidance(guidance)
            if contexts is None and all(label is None for label in labels):
                known = " or ".join(["a label"] * bool(self.config.classes) + ["a context"] * bool(self.config.context))
                raise UserError(f"guidance: got {guidance:g} with nothing to be guided by; expected {known} beside it")
        weight = self.config.plain_guidance if guidance is None else guidance
        numbers = [NULL_LABEL if v is None else first + v for v in labels]
        return Condition(
            label=torch.tensor(numbers, dtype=torch.int64) if self.config.classes else None,
            context=contexts,
            guidance=None if weight is None else torch.full((n,), weight),
            modality=None if index is None else torch.full((n,), index, dtype=torch.int64),
        )

    def _check_given(self, labels: Sequence[int | None], contexts: Tensor | None) -> None:
        """Refuse samples without a label or context, of which this model has no idea."""
        if self.config.classes and any(label is None for label in labels):
            raise UserError(f"label: expected 0 to {len(self.config.classes) - 1}: this model {NEVER_WITHOUT}")
        if self.config.context is not None and contexts is None:
            raise UserError(f"context: expected one: this model {NEVER_WITHOUT}")

    @property
    def can_be_guided(self) -> bool:
        """Whether a guidance weight means something: to a teacher that knows conditions, or to a network that takes it."""
        teacher = self.model.role == "teacher" and self.config.unconditional
        return self.config.conditional and (teacher or bool(self.config.network.settings.get("guided")))

    def check_guidance(self, weight: float) -> None:
        """Refuse a weight that the model cannot follow."""
        if not math.isfinite(weight):
            raise UserError(f"guidance: expected a finite weight, got {weight}")
        if not self.config.conditional:
            raise UserError(f"guidance: expected none, got {weight:g}: this model knows no classes to be guided by")
        if self.model.role == "teacher" and not self.config.unconditional:
            raise UserError(f"guidance: expected none, got {weight:g}: this model {NEVER_WITHOUT}")
        if not self.can_be_guided:
            raise UserError(f"guidance: expected none, got {weight:g}: this model is no denoising teacher")
        low, high = self.config.guidance or (-math.inf, math.inf)
        if not low <= weight <= high:
            raise UserError(f"guidance: expected {low:g} to {high:g}, the weights of its training, got {weight:g}")
