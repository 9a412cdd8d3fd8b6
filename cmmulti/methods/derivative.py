"""Derivatives along a direction, for the methods that differentiate a network in its input and its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from cmmulti.model import expand
from cmmulti.nn.precision import full_precision

Derivative = Literal["forward-mode", "difference"]


@torch.no_grad()
def along(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    direction: Sequence[Tensor],
    factor: Tensor,
    step: Tensor,
    kind: Derivative = "forward-mode",
) -> Tensor:
    """``factor * d/dh function(inputs + h direction)`` at h = 0, without gradient.

    Args:
        function: of the inputs; enters its own dropout masks, so that every call has the same.
        inputs, direction: tensors of equal shapes. factor: (B,), of the same dtype as the first input.
        kind: ``forward-mode`` is exact (``torch.func.jvp``, about the cost of two passes). ``difference`` takes two passes
            at ``+-step`` (B,) in single precision, for networks without a forward derivative; see :func:`steps_inside`.

    The factor multiplies the direction, not the result: a derivative that is large where the factor is small is never
    formed, and neither overflows in half precision (arXiv 2410.11081, section 4.1). Differences have no such trouble.
    """
    if kind == "forward-mode":
        scaled = tuple(expand(factor, d) * d for d in direction)
        return torch.func.jvp(function, tuple(inputs), scaled)[1]
    with full_precision(inputs[0].device):
        ahead = function(*(v + expand(step, d) * d for v, d in zip(inputs, direction, strict=True)))
        behind = function(*(v - expand(step, d) * d for v, d in zip(inputs, direction, strict=True)))
        return expand(factor / (2 * step), ahead) * (ahead - behind)


def steps_inside(t: Tensor, end: float, longest: float) -> Tensor:
    """Steps of a difference in ``t`` (B,): at most half of the way to 0 or to ``end``, where the process has its ends.

    Beyond an end a time may mean nothing, such as an angle above pi/2 a negative noise level. What is differentiated has
    factors that vanish at both ends, so that rounding does not grow as steps shrink.
    """
    return (torch.minimum(t, end - t) / 2).clamp_max(longest)
