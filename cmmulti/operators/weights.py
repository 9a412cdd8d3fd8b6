"""Weighting measurements, as unequal noise asks for."""

from __future__ import annotations

from torch import Tensor

from cmmulti.operators.base import LinearOperator


class Weights(LinearOperator):
    """``A x = w x`` element by element; self-adjoint. ``1 / std`` makes noise of unequal ``std`` white.

    Args:
        weights: w, real, (B or 1, *domain).
    """

    def __init__(self, weights: Tensor) -> None:
        super().__init__(weights.shape[1:], weights.shape[1:])
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights.to(x)

    def backward(self, y: Tensor) -> Tensor:
        return y * self.weights.to(y)
