"""Attention over all positions of a feature map, and to a context."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from cmmulti.nn.forward_mode import GroupNorm, in_forward_mode


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention on (B, heads, tokens, width).

    Fused kernels have no forward derivative, so the written-out form serves inside ``torch.func.jvp``.
    """
    if in_forward_mode():
        weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
        return weights @ v
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Self-attention on (B, C, *spatial), then cross-attention to ``context`` (B, tokens, context_width) where built.

    No context is the null context, one token of zeros.

    Args:
        channels: C. heads: number of heads, dividing C. context_width: features of the context, 0 for none.
        groups: of the group norm in front.
    """

    def __init__(self, channels: int, heads: int, groups: int, context_width: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.cross = CrossAttention(channels, heads, context_width) if context_width else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (self._split(t) for t in self.qkv(tokens).chunk(3, -1))
        update = self.out(attend(q, k, v).transpose(1, 2).flatten(2))
        if self.cross is not None:
            update = update + self.cross(tokens + update, context)
        return x + update.transpose(1, 2).unflatten(2, x.shape[2:]).to(x.dtype)

    def _split(self, t: Tensor) -> Tensor:
        return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CrossAttention(nn.Module):
    """Tokens (B, N, C) look at a context (B, M, context_width)."""

    def __init__(self, channels: int, heads: int, context_width: int) -> None:
        super().__init__()
        self.heads, self.context_width = heads, context_width
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(context_width, 2 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, context: Tensor | None) -> Tensor:
        context = tokens.new_zeros(len(tokens), 1, self.context_width) if context is None else context.to(tokens.dtype)
        k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.key_value(context).chunk(2, -1))
        q = self.query(self.norm(tokens)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        update: Tensor = self.out(attend(q, k, v).transpose(1, 2).flatten(2))
        return update
