"""Keep some coordinates, zero the others."""

from __future__ import annotations

from torch import Tensor

from cmmulti.operators.base import LinearOperator


class Mask(LinearOperator):
    """``A x = mask * x``: what is measured where ``mask`` is 1. Self-adjoint; its pseudo-inverse is itself.

    Args:
        mask: (B or 1, *broadcastable to domain) of 0 and 1 (bool or any number). domain: shape without the batch.
        complex_domain: whether it acts on complex tensors, such as k-space.
    """

    closed_form_pinv = True

    def __init__(self, mask: Tensor, domain: tuple[int, ...], complex_domain: bool = False) -> None:
        super().__init__(domain, domain, complex_domain, complex_domain)
        self.mask = mask != 0

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x.device)

    def backward(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def pinv(self, y: Tensor) -> Tensor:
        return self(y)
