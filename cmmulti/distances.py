"""How far two estimates lie apart: one number per sample of a batch.

Each distance maps (B, ...) and (B, ...) to (B,), is computed in float32 or better, and has a finite gradient where both
are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def _wide(x: Tensor) -> Tensor:
    """float32, or float64 where the estimate has it: checks need its digits."""
    return x if x.dtype == torch.float64 else x.float()


def squared_l2(a: Tensor, b: Tensor) -> Tensor:
    """Sum of squared differences over all elements of a sample."""
    return (_wide(a) - _wide(b)).flatten(1).square().sum(1)


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Mean of squared differences: L2 as Consistency Models use it (arXiv 2303.01469)."""
    return (_wide(a) - _wide(b)).flatten(1).square().mean(1)


def pseudo_huber(a: Tensor, b: Tensor, c: float) -> Tensor:
    """``sqrt(|a - b|^2 + c^2) - c`` over the whole sample (iCT, arXiv 2310.14189, eq. 7).

    ``c = 0.00054 sqrt(d)`` for d elements in iCT; ECT takes ``c = 0`` and gets the plain norm. Then a floor of 1e-8 is
    kept under the root, whose derivative is otherwise infinite where a equals b.
    """
    floor = max(c, 1e-8)
    return (squared_l2(a, b) + floor**2).sqrt() - floor


def mean_absolute(a: Tensor, b: Tensor) -> Tensor:
    """Mean of absolute differences: L1 as Consistency Models use it."""
    return (_wide(a) - _wide(b)).flatten(1).abs().mean(1)


def elementwise_huber(a: Tensor, b: Tensor, c: float = 0.001) -> Tensor:
    """Mean over elements of ``sqrt((a - b)^2 + c^2) - c``: the pseudo-Huber distance as LCM uses it (arXiv 2310.04378)."""
    return (((_wide(a) - _wide(b)).square() + c**2).sqrt() - c).flatten(1).mean(1)


def feature_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """LPIPS without learned weights (Zhang et al. 2018, arXiv 1801.03924, eq. 1 with w = 1), from a network's features.

    Args:
        a, b: one tensor (B, channels, *spatial) per layer, of any number of layers and sizes.

    At each position the channels are scaled to unit length; the squared difference is summed over channels, averaged over
    positions and summed over layers. Each layer adds 0 to 4, and at most 2 where features are not negative.
    """
    layers = []
    for one, other in zip(a, b, strict=True):
        difference = F.normalize(_wide(one), dim=1, eps=1e-10) - F.normalize(_wide(other), dim=1, eps=1e-10)
        layers.append(difference.square().sum(1).flatten(1).mean(1))
    return torch.stack(layers).sum(0)


Distance = Literal["l2", "l1", "huber", "elementwise-huber"]


def distance(kind: Distance, a: Tensor, b: Tensor) -> Tensor:
    """The distance called ``kind``; ``huber`` takes iCT's ``c = 0.00054 sqrt(d)``."""
    if kind == "l2":
        return mean_square(a, b)
    if kind == "l1":
        return mean_absolute(a, b)
    if kind == "elementwise-huber":
        return elementwise_huber(a, b)
    return pseudo_huber(a, b, 0.00054 * math.sqrt(a[0].numel()))
