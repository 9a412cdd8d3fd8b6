"""Total variation, the classical baseline: ``argmin_x |A x - y|^2 / 2 + weight TV(x)`` for any operator."""

from __future__ import annotations

import torch
from torch import Tensor

from cmmulti.operators.base import LinearOperator

INNER = 5
"""Dual steps per outer iteration."""


def tv_reconstruct(
    operator: LinearOperator,
    y: Tensor,
    weight: float,
    start: Tensor,
    norm: float | None = None,
    nonnegative: bool = False,
    iterations: int = 100,
) -> Tensor:
    """Isotropic total variation over the last two axes by FISTA (Beck and Teboulle 2009).

    Its inner problem, denoising by total variation, is solved by a few projected gradient steps on the dual, which goes on
    from where the last one ended.

    Args:
        operator: A, images (1, rows, columns), real or complex, -> measurements. y: (B, *range).
        weight: in the units of the image where A has norm 1: 0.005 of its brightest tissue is a usual size.
        start: first guess (B, 1, rows, columns), real or complex; the result is like it.
        norm: largest singular value of A; estimated when None. nonnegative: real images of values >= 0 only.
        iterations: 100 are enough for MRI, 200 for sparse views.
    """
    norm = _norm(operator, start) if norm is None else norm
    weight = weight / norm**2
    x = ahead = start
    dual = torch.zeros(2, *start.shape, dtype=start.dtype, device=start.device)
    momentum = 1.0
    for _ in range(iterations):
        target = ahead - operator.adjoint(operator(ahead) - y).div_(norm**2)
        for _ in range(INNER):
            _add_gradient(dual, _primal(target, dual, nonnegative), 1 / 8)
            size = dual.abs().square_().sum(0).sqrt_().clamp_min_(weight)
            dual.mul_(weight / size)
        new = _primal(target, dual, nonnegative)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - x)
        x, momentum = new, following
    return x


def _primal(target: Tensor, dual: Tensor, nonnegative: bool) -> Tensor:
    """The image that belongs to a dual: ``target - D^H dual``, projected."""
    x = target - _add_divergence(torch.zeros_like(target), dual)
    return x.clamp_min_(0) if nonnegative else x


def _norm(operator: LinearOperator, like: Tensor, iterations: int = 20) -> float:
    """The largest singular value for one of the images, from below to a per cent or so, by power iteration."""
    x = torch.ones_like(like)
    for _ in range(iterations):
        x = operator.adjoint(operator(x / x.norm()))
    return 1.01 * float(x.norm()) ** 0.5


def _add_gradient(dual: Tensor, x: Tensor, factor: float) -> None:
    """``dual += factor * D x`` in place: D takes forward differences along rows and columns, 0 at the far edges."""
    dual[0, ..., :-1, :].add_(x[..., 1:, :] - x[..., :-1, :], alpha=factor)
    dual[1, ..., :-1].add_(x[..., 1:] - x[..., :-1], alpha=factor)


def _add_divergence(x: Tensor, dual: Tensor) -> Tensor:
    """``x += D^H dual`` in place."""
    down, right = dual[0, ..., :-1, :], dual[1, ..., :-1]
    x[..., :-1, :].sub_(down)
    x[..., 1:, :].add_(down)
    x[..., :-1].sub_(right)
    x[..., 1:].add_(right)
    return x
