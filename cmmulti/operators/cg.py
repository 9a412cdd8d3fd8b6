"""Conjugate gradient on a batch of independent systems."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor],
    right: Tensor,
    start: Tensor,
    iterations: int = 200,
    tolerance: float = 1e-6,
) -> Tensor:
    """Solve ``N x = b`` for a symmetric positive semi-definite ``N``, sample by sample (Hestenes and Stiefel 1952).

    Args:
        normal: (B, ...) -> (B, ...), real or complex, acting on each sample alone.
        right: b (B, ...). start: first guess; for a singular N the answer keeps its part in the null space.
        iterations: at most. tolerance: on ``|b - N x| / |b|`` of each sample; a sample that has reached it stands still.

    Returns:
        x like ``start``.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        product = a.flatten(1).conj() * b.flatten(1)
        return (product.real if product.is_complex() else product).sum(1).view(-1, *[1] * (a.dim() - 1))

    # The way from the start, in units of b or of N x, whichever is larger: dot products stay within single precision
    # whatever units the measurements are in, and powers of two change no digit.
    image = normal(start)
    largest = torch.maximum(_largest(right), _largest(image))
    unit = torch.where(largest > 0, torch.exp2(torch.floor(torch.log2(largest))), 1)
    right = right / unit
    residual = right - image / unit
    way = torch.zeros_like(start)
    direction = residual
    size = dot(residual, residual)
    goal = (tolerance**2) * dot(right, right)
    for _ in range(iterations):
        active = size > goal
        if not bool(active.any()):
            break
        image = normal(direction)
        curvature = dot(direction, image)
        rate = torch.where(active & (curvature > 0), size / curvature.clamp_min(torch.finfo(size.dtype).tiny), 0)
        way = way + rate * direction
        residual = residual - rate * image
        new = dot(residual, residual)
        direction = residual + torch.where(active, new / size.clamp_min(torch.finfo(size.dtype).tiny), 0) * direction
        size = new
    return start + way * unit


def _largest(x: Tensor) -> Tensor:
    """The largest absolute value of each sample, (B, 1, ...)."""
    return x.abs().flatten(1).amax(1).view(-1, *[1] * (x.dim() - 1))
