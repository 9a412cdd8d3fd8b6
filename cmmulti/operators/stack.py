"""Several measurements of one thing as one measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cmmulti.operators.base import LinearOperator


class Stack(LinearOperator):
    """``A x = (A_1 x, A_2 x, ...)`` as one flat real vector.

    Parts may differ in shape, and real and complex ones mix: each is flattened, a complex one into (real, imaginary)
    pairs. That keeps the real inner product, so adjoint and conjugate gradient are those of the parts, and noise per real
    component means the same on every part.

    Args:
        operators: at least one, all with one domain.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        if not operators:
            raise ValueError("Stack: expected at least one operator, got none")
        first = operators[0]
        for other in operators[1:]:
            if (other.domain, other.complex_domain) != (first.domain, first.complex_domain):
                raise ValueError(f"Stack: expected one domain {first.domain}, got {other.domain} ({type(other).__name__})")
        self.operators = tuple(operators)
        self.sizes = [math.prod(a.range) * (2 if a.complex_range else 1) for a in operators]
        super().__init__(first.domain, (sum(self.sizes),), first.complex_domain, False)

    def forward(self, x: Tensor) -> Tensor:
        return self.join([a(x) for a in self.operators])

    def backward(self, y: Tensor) -> Tensor:
        parts = [a.adjoint(part) for a, part in zip(self.operators, self.split(y), strict=True)]
        return torch.stack(parts).sum(0)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The stacked vector (B, n) of each operator's own measurements (B, *range)."""
        return torch.cat([(torch.view_as_real(p) if p.is_complex() else p).flatten(1) for p in parts], 1)

    def split(self, y: Tensor) -> list[Tensor]:
        """The parts of a stacked vector, each (B, *range) of its operator: the inverse of :meth:`join`."""
        parts = []
        for operator, part in zip(self.operators, y.split(self.sizes, 1), strict=True):
            if operator.complex_range:
                part = torch.view_as_complex(part.unflatten(1, (-1, 2)).contiguous())
            parts.append(part.unflatten(1, operator.range))
        return parts
