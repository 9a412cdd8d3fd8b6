"""What a sample is conditioned on: class label, context, guidance weight, modality.

A :class:`Condition` holds no time; dropping a label therefore never drops a time. It is a registered pytree, so that it
passes through ``torch.func`` and ``torch.utils._pytree`` like any nest of tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

NULL_LABEL = -1
"""The label of an unconditional sample; networks give it an embedding of its own."""


@dataclass(frozen=True)
class Condition:
    """Conditions of a batch of B samples; every field is optional.

    Args:
        label: (B,) int64 class index, or ``NULL_LABEL`` for none.
        context: (B, tokens, features) float, e.g. a text encoder's output; zeros for none, so that one of its features
            must tell an average context from none (see :mod:`cmmulti.contexts.scale`).
        guidance: (B,) float guidance weight: for a teacher, the weight of classifier-free guidance
            ``D_null + w (D_label - D_null)``; for a guided student, an input of the network.
        modality: (B,) int64 index of the modality, for a model of several.
    """

    label: Tensor | None = None
    context: Tensor | None = None
    guidance: Tensor | None = None
    modality: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Condition:
        """Apply ``function`` to every tensor that is there."""
        return Condition(*(None if v is None else function(v) for v in self._values()))

    def to(self, device: torch.device | str) -> Condition:
        return self.map(lambda v: v.to(device))

    def __getitem__(self, index: slice | Tensor) -> Condition:
        return self.map(lambda v: v[index])

    def dropped(self, drop: Tensor | None = None, drop_context: Tensor | None = None) -> Condition:
        """Forget label and context where ``drop`` (B,) bool is true (everywhere when ``drop`` is None).

        ``drop_context`` (B,) bool says where the context is forgotten, if not at the same samples.
        """
        label, context = self.label, self.context
        if label is not None:
            gone = torch.ones_like(label, dtype=torch.bool) if drop is None else drop
            label = torch.where(gone, torch.full_like(label, NULL_LABEL), label)
        if context is not None:
            of_context = drop if drop_context is None else drop_context
            gone = torch.ones(len(context), dtype=torch.bool, device=context.device) if of_context is None else of_context
            context = torch.where(gone[:, None, None], torch.zeros_like(context), context)
        return replace(self, label=label, context=context)

    def unconditional(self, x: Tensor) -> Tensor:
        """(B,) bool, on the device of ``x`` (B, ...): which samples have lost all that they were given.

        Where nothing is ever given, none has lost anything.
        """
        lost = [] if self.label is None else [self.label == NULL_LABEL]
        if self.context is not None:
            lost.append((self.context == 0).flatten(1).all(1))
        nothing = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return torch.stack(lost).all(0) if lost else nothing

    def _values(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))


NO_CONDITION = Condition()

pytree.register_pytree_node(
    Condition,
    lambda c: (list(c._values()), None),
    lambda values, _: Condition(*values),
    serialized_type_name="cmmulti.Condition",
)
