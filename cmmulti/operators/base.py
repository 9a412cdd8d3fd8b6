"""The contract of a linear operator, and what composes.

An operator maps (B, *domain) to (B, *range), real or complex, on any device; B may be 1 in an operator's own tensors
(one mask for all) or the batch. The adjoint is that of the real inner product ``Re <a, b>``, so that operators from real
to complex spaces have one too. ``@`` composes, ``.H`` is the adjoint as an operator.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor


class LinearOperator(ABC):
    """``A``; subclasses set the shapes and write :meth:`forward` and :meth:`backward`.

    Args:
        domain, range: shapes without the batch. complex_domain, complex_range: which sides are complex.
    """

    def __init__(
        self,
        domain: Sequence[int],
        range: Sequence[int],
        complex_domain: bool = False,
        complex_range: bool = False,
    ) -> None:
        self.domain = tuple(domain)
        self.range = tuple(range)
        self.complex_domain = complex_domain
        self.complex_range = complex_range

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """``A x``, (B, *domain) -> (B, *range), the shape already checked. Callers use ``operator(x)``."""

    @abstractmethod
    def backward(self, y: Tensor) -> Tensor:
        """``A^H y``, (B, *range) -> (B, *domain), the shape already checked. Callers use :meth:`adjoint`."""

    closed_form_pinv = False
    """Whether :meth:`pinv` is exact in closed form; otherwise it is conjugate gradient to a tolerance."""

    unitary = False
    """Whether the adjoint is the inverse."""

    def __call__(self, x: Tensor) -> Tensor:
        self._check(x, self.domain, "domain")
        return self.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^H y``, (B, *range) -> (B, *domain).

        Raises:
            ValueError: y has another shape.
        """
        self._check(y, self.range, "range")
        return self.backward(y)

    def pinv(self, y: Tensor) -> Tensor:
        """The minimum-norm least-squares solution of ``A x = y``; by CG on the normal equations unless closed form."""
        from cmmulti.operators.cg import conjugate_gradient

        right = self.adjoint(y)
        return conjugate_gradient(lambda x: self.adjoint(self(x)), right, torch.zeros_like(right))

    def norm(self, iterations: int = 50) -> float:
        """The largest singular value, by power iteration in float64."""
        generator = torch.Generator().manual_seed(0)
        dtype = torch.complex128 if self.complex_domain else torch.float64
        x = torch.randn((1, *self.domain), generator=generator, dtype=dtype)
        size = 1.0
        for _ in range(iterations):
            x = self.adjoint(self(x / x.norm()))
            size = float(x.norm())
            if size == 0:
                return 0.0
        return math.sqrt(size)

    @property
    def H(self) -> LinearOperator:
        """The adjoint as an operator."""
        return _Adjoint(self)

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return Composition(self, other)

    def _check(self, x: Tensor, shape: tuple[int, ...], side: str) -> None:
        if tuple(x.shape[1:]) != shape:
            raise ValueError(f"{type(self).__name__}: {side} is {shape}, got a batch of {tuple(x.shape[1:])}")


class Composition(LinearOperator):
    """``(outer @ inner)(x) = outer(inner(x))``. Pseudo-inverses multiply only where the inner factor is unitary."""

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        if outer.domain != inner.range:
            raise ValueError(
                f"{type(outer).__name__} @ {type(inner).__name__}: domain {outer.domain} does not fit range {inner.range}"
            )
        super().__init__(inner.domain, outer.range, inner.complex_domain, outer.complex_range)
        self.outer, self.inner = outer, inner
        self.unitary = outer.unitary and inner.unitary
        self.closed_form_pinv = outer.closed_form_pinv and inner.unitary

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def backward(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))

    def pinv(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.pinv(y)) if self.closed_form_pinv else super().pinv(y)


class _Adjoint(LinearOperator):
    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.range, operator.domain, operator.complex_range, operator.complex_domain)
        self.operator = operator
        self.unitary = operator.unitary

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(x)

    def backward(self, y: Tensor) -> Tensor:
        return self.operator(y)


class Identity(LinearOperator):
    """The operator that changes nothing."""

    closed_form_pinv = unitary = True

    def __init__(self, domain: Sequence[int], complex_domain: bool = False) -> None:
        super().__init__(domain, domain, complex_domain, complex_domain)

    def forward(self, x: Tensor) -> Tensor:
        return x

    def backward(self, y: Tensor) -> Tensor:
        return y

    def pinv(self, y: Tensor) -> Tensor:
        return self(y)
