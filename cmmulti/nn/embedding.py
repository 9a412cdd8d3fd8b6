"""Time, label, context and modality as one vector per sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmmulti.conditioning import NULL_LABEL, Condition
from cmmulti.nn.precision import full_precision


class TimeFeatures(nn.Module):
    """Sines and cosines of the native time, float32 whatever autocast says.

    Args:
        width: number of features, even.
        scale: highest angular frequency. Frequencies fall geometrically from it to ``scale / 100``. Consistency training
            differentiates in time, so frequencies stay low (arXiv 2410.11081, section 4.1).
    """

    frequencies: Tensor

    def __init__(self, width: int, scale: float = 16.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", scale * torch.logspace(0, -2, width // 2), persistent=False)

    def forward(self, time: Tensor) -> Tensor:
        """(B,) -> (B, width)."""
        angle = time.to(self.frequencies.dtype)[:, None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], 1) * math.sqrt(2)


class ConditionEmbedding(nn.Module):
    """(time, time_next, condition) -> (B, width), the vector that modulates every block.

    Args:
        width: of the vector. classes: number of labels, 0 for none. modalities: number of modalities, 0 for none.
        context_width: features of a context, 0 for none; the mean of its tokens is added, so that it reaches every block.
        two_times: the network is also told ``time_next``, ``time`` itself where there is none (the diagonal, where it
            denoises); with ``time_gap`` as ``time - time_next``, which MeanFlow advises (arXiv 2505.13447, table 1c).
            guided: it is told the guidance weight, 1 where the condition has none.
    """

    def __init__(
        self,
        width: int,
        classes: int = 0,
        modalities: int = 0,
        two_times: bool = False,
        guided: bool = False,
        time_scale: float = 16.0,
        time_gap: bool = False,
        context_width: int = 0,
    ) -> None:
        super().__init__()
        if time_gap and not two_times:
            raise ValueError("time_gap: expected two_times beside it, for there is no second time")
        self.time_gap = time_gap
        features = max(32, width // 8 * 2)  # a sine and a cosine of each frequency
        self.time = TimeFeatures(features, time_scale)
        self.time_in = nn.Linear(features, width)
        self.next_in = nn.Linear(features, width, bias=False) if two_times else None
        self.guidance_in = nn.Linear(features, width, bias=False) if guided else None
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.modality = nn.Embedding(modalities, width) if modalities else None
        self.context_in = nn.Linear(context_width, width, bias=False) if context_width else None
        self.out = nn.Linear(width, width)

    def forward(self, time: Tensor, condition: Condition, time_next: Tensor | None = None) -> Tensor:
        # Half-precision embeddings of time make the derivatives of continuous-time methods spike.
        with full_precision(time.device):
            return self._embed(time, condition, time_next)

    def _embed(self, time: Tensor, condition: Condition, time_next: Tensor | None) -> Tensor:
        h = self.time_in(self.time(time))
        if time_next is not None and self.next_in is None:
            raise ValueError("this network has one time; build it with two_times=True to give it time_next")
        # A sum without its term is nothing that was trained.
        if self.next_in is not None:
            later = time if time_next is None else time_next
            h = h + self.next_in(self.time(time - later if self.time_gap else later))
        if self.guidance_in is not None:
            weight = torch.ones_like(time) if condition.guidance is None else condition.guidance
            h = h + self.guidance_in(self.time(weight.log1p()))
        if self.label is not None:
            h = h + self.label(label_index(condition, self.label.num_embeddings - 1, time))
        if self.modality is not None:
            if condition.modality is None:
                raise ValueError(f"a network of {self.modality.num_embeddings} modalities; expected one in the condition")
            h = h + self.modality(condition.modality)
        if self.context_in is not None and condition.context is not None:
            h = h + self.context_in(condition.context.mean(1).to(h.dtype))
        return F.silu(self.out(F.silu(h)))


def label_index(condition: Condition, classes: int, time: Tensor) -> Tensor:
    """(B,) int64 rows of an embedding of ``classes`` labels, whose last row, ``classes``, is that of no label.

    ``time`` (B,) lends batch size and device.
    """
    if condition.label is None:
        return torch.full((len(time),), classes, dtype=torch.int64, device=time.device)
    return torch.where(condition.label == NULL_LABEL, classes, condition.label)
