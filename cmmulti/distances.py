"""How far two estimates lie apart: one number per sample of a batch.

Each distance maps (B, ...) and (B, ...) to (B,), is computed in float32, and has a finite gradient where both are equal.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor


def squared_l2(a: Tensor, b: Tensor) -> Tensor:
    """Sum of squared differences over all elements of a sample."""
    return (a.float() - b.float()).flatten(1).square().sum(1)


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Mean of squared differences: L2 as Consistency Models use it (arXiv 2303.01469)."""
    return (a.float() - b.float()).flatten(1).square().mean(1)


def pseudo_huber(a: Tensor, b: Tensor, c: float) -> Tensor:
    """``sqrt(|a - b|^2 + c^2) - c`` over the whole sample (iCT, arXiv 2310.14189, eq. 7).

    ``c = 0.00054 sqrt(d)`` for d elements in iCT; ECT takes ``c = 0`` and gets the plain norm. Then a floor of 1e-8 is
    kept under the root, whose derivative is otherwise infinite where a equals b.
    """
    floor = max(c, 1e-8)
    return (squared_l2(a, b) + floor**2).sqrt() - floor


def mean_absolute(a: Tensor, b: Tensor) -> Tensor:
    """Mean of absolute differences: L1 as Consistency Models use it."""
    return (a.float() - b.float()).flatten(1).abs().mean(1)


Distance = Literal["l2", "l1", "huber"]


def distance(kind: Distance, a: Tensor, b: Tensor) -> Tensor:
    """The distance called ``kind``; ``huber`` takes iCT's ``c = 0.00054 sqrt(d)``."""
    if kind == "l2":
        return mean_square(a, b)
    if kind == "l1":
        return mean_absolute(a, b)
    return pseudo_huber(a, b, 0.00054 * math.sqrt(a[0].numel()))
