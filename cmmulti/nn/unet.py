"""The U-Net for one, two or three spatial dimensions: one design for sound, pictures and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.nn.attention import Attention
from cmmulti.nn.embedding import ConditionEmbedding
from cmmulti.nn.forward_mode import Conv1d, Conv2d, Conv3d, Dropout, GroupNorm

CONV: dict[int, type[nn.Module]] = {1: Conv1d, 2: Conv2d, 3: Conv3d}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
"""The order in memory that convolutions are fastest in, on processors and GPUs alike; there is none for one dimension."""


def zeroed(module: nn.Module) -> nn.Module:
    """The same module with all parameters 0: a block that starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Block(nn.Module):
    """Residual block with adaptive group norm: norm, SiLU, conv, norm * (1 + scale) + shift, SiLU, dropout, conv.

    With ``double_norm`` it is ``norm * pixel_norm(scale) + pixel_norm(shift)`` (arXiv 2410.11081, section 4.1).
    """

    def __init__(
        self, dims: int, channels: int, out: int, embedding: int, groups: int, dropout: float, double_norm: bool = False
    ) -> None:
        super().__init__()
        self.double_norm = double_norm
        conv = CONV[dims]
        self.norm1 = GroupNorm(divisor(channels, groups), channels)
        self.conv1 = conv(channels, out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * out)
        self.norm2 = GroupNorm(divisor(out, groups), out)
        self.dropout = Dropout(dropout)
        self.conv2 = zeroed(conv(out, out, 3, padding=1))
        self.skip = conv(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        modulation = self.modulation(embedding)
        scale, shift = modulation.view(*modulation.shape, *([1] * (x.dim() - 2))).chunk(2, 1)
        scale, shift = (pixel_norm(scale), pixel_norm(shift)) if self.double_norm else (1 + scale, shift)
        h = F.silu(torch.addcmul(shift, self.norm2(h), scale))
        return self.skip(x) + self.conv2(self.dropout(h))


class UNet(nn.Module):
    """N-dimensional U-Net, ``forward(x, time, condition, time_next=None) -> like x``.

    Args:
        dims: 1, 2 or 3 spatial dimensions. in_channels: of the data.
        channels: width at each level, finest first; each further level halves the resolution.
        blocks: residual blocks per level on the way down (one more on the way up).
        attention: levels (0 = finest, -1 = coarsest) with self-attention; the middle has it where the last level has.
        patch: side of the patches that the first convolution reads: the network works at 1/patch of the resolution,
            where a CPU is several times faster per parameter. A patch's ``in_channels * patch**dims`` values should be
            fewer than ``channels[0]``: what does not pass the first width cannot be told from noise, and stays in samples.
        dropout: rate inside blocks. heads: attention heads. groups: most groups of a group norm.
        classes: number of labels, 0 for none. context_width: features of a context, 0 for none: blocks take the mean of its
            tokens, attention each of them.
        modalities, two_times, guided: further inputs, see :class:`ConditionEmbedding`.
        time_scale: highest frequency of the time features. time_gap: see :class:`ConditionEmbedding`.
        double_norm: normalise what modulates the blocks too, which continuous-time methods advise.

    Any spatial size is taken: it is padded with zeros to a multiple of ``patch * 2**(levels - 1)`` and cropped back.
    """

    def __init__(
        self,
        dims: Literal[1, 2, 3] = 2,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 96),
        blocks: int = 1,
        attention: Sequence[int] = (),
        patch: int = 1,
        dropout: float = 0.0,
        heads: int = 4,
        groups: int = 16,
        classes: int = 0,
        context_width: int = 0,
        modalities: int = 0,
        two_times: bool = False,
        guided: bool = False,
        time_scale: float = 16.0,
        time_gap: bool = False,
        double_norm: bool = False,
    ) -> None:
        super().__init__()
        channels = list(channels)
        if not channels or min(channels) < 1:
            raise ValueError(f"channels: expected a width above 0 for each level, got {channels}")
        used = {"heads": heads} if attention else {}
        for name, value in {"blocks": blocks, "patch": patch, "groups": groups, **used}.items():
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        attention = attended(attention, len(channels))
        if odd := [c for level, c in enumerate(channels) if level in attention and c % heads]:
            raise ValueError(f"heads: expected a divisor of the widths with attention, got {heads} for {odd[0]} channels")
        conv, width = CONV[dims], 4 * channels[0]
        self.dims, self.patch, self.multiple = dims, patch, patch * 2 ** (len(channels) - 1)
        self.embedding = ConditionEmbedding(
            width, classes, modalities, two_times, guided, time_scale, time_gap, context_width
        )
        folded = in_channels * patch**dims

        def block(i: int, o: int) -> Block:
            return Block(dims, i, o, width, groups, dropout, double_norm)

        def attend(level: int, c: int) -> nn.Module | None:
            return Attention(c, heads, divisor(c, groups), context_width) if level in attention else None

        self.stem = conv(folded, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        skips = [channels[0]]
        current = channels[0]
        for level, c in enumerate(channels):
            if level:
                self.down.append(_Step(conv(current, c, 3, stride=2, padding=1)))
                current = c
                skips.append(c)
            for _ in range(blocks):
                self.down.append(_Step(block(current, c), attend(level, c)))
                current = c
                skips.append(c)
        last = len(channels) - 1
        self.middle = nn.ModuleList([_Step(block(current, current), attend(last, current)), _Step(block(current, current))])
        self.up = nn.ModuleList()
        for level, c in reversed(list(enumerate(channels))):
            for _ in range(blocks + 1):
                self.up.append(_Step(block(current + skips.pop(), c), attend(level, c)))
                current = c
            if level:
                self.up.append(_Step(_Upsample(dims, c)))
        self.head_norm = GroupNorm(divisor(current, groups), current)
        self.head = zeroed(conv(current, folded, 3, padding=1))

    def forward(
        self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
    ) -> Tensor:
        """(B, C, *spatial) and (B,) times -> (B, C, *spatial)."""
        size = x.shape[2:]
        h = self._fold(pad_to(x, self.multiple))
        if self.dims in CHANNELS_LAST:
            h = h.contiguous(memory_format=CHANNELS_LAST[self.dims])
        embedding, context = self.embedding(time, condition, time_next), condition.context
        h = self.stem(h)
        kept = [h]
        for step in self.down:
            h = step(h, embedding, context)
            kept.append(h)
        for step in self.middle:
            h = step(h, embedding, context)
        for step in self.up:
            if isinstance(step.block, Block):
                h = torch.cat([h, kept.pop()], 1)
            h = step(h, embedding, context)
        h = self._unfold(self.head(F.silu(self.head_norm(h))))
        return crop_to(h, size)

    def _fold(self, x: Tensor) -> Tensor:
        """Patches into channels: (B, C, n*p, ...) -> (B, C*p**dims, n, ...)."""
        p, d = self.patch, self.dims
        if p == 1:
            return x
        x = x.reshape(*x.shape[:2], *(v for n in x.shape[2:] for v in (n // p, p)))
        order = [0, 1, *range(3, 2 * d + 2, 2), *range(2, 2 * d + 2, 2)]
        return x.permute(order).flatten(1, d + 1)

    def _unfold(self, x: Tensor) -> Tensor:
        """Channels into patches, the inverse of :meth:`_fold`."""
        p, d = self.patch, self.dims
        if p == 1:
            return x
        x = x.unflatten(1, (-1, *[p] * d))
        order = [0, 1, *(v for i in range(d) for v in (d + 2 + i, 2 + i))]
        x = x.permute(order)
        return x.reshape(*x.shape[:2], *(n * p for n in x.shape[2::2]))


class _Step(nn.Module):
    """One module of the path, then attention where there is any."""

    def __init__(self, block: nn.Module, attention: nn.Module | None = None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        h = self.block(x, embedding) if isinstance(self.block, Block) else self.block(x)
        return h if self.attention is None else self.attention(h, context)


class _Upsample(nn.Module):
    """Doubles every axis by repetition, then smooths with a convolution."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.conv = CONV[dims](channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def attended(attention: Sequence[int], levels: int) -> list[int]:
    """Levels with attention, counted from the finest; negative ones are counted from the coarsest, -1.

    Raises:
        ValueError: there is no such level.
    """
    if not all(-levels <= level < levels for level in attention):
        named = f"0 (finest) to {levels - 1}, or {-levels} to -1"
        raise ValueError(f"attention: expected levels {named}, got {list(attention)}")
    return [level % levels for level in attention]


def pixel_norm(x: Tensor) -> Tensor:
    """Over channels, to a root mean square of 1."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Zeros behind each spatial axis up to the next multiple."""
    # A remainder of a negative size is beyond torch.compile's arithmetic of unknown sizes.
    padding = [v for n in reversed(x.shape[2:]) for v in (0, (n + multiple - 1) // multiple * multiple - n)]
    return F.pad(x, padding) if any(padding) else x


def crop_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first ``size`` elements along each spatial axis: what :func:`pad_to` was given."""
    window: tuple[EllipsisType | slice[None, int, None], ...] = (..., *(slice(n) for n in size))
    return x[window]


def divisor(channels: int, groups: int) -> int:
    """The largest number of groups up to ``groups`` that divides ``channels``."""
    return next(g for g in range(min(groups, channels), 0, -1) if channels % g == 0)
