"""Rearranging the elements of a tensor: flips, transpositions, any permutation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cmmulti.operators.base import LinearOperator


class Permutation(LinearOperator):
    """``A x``: the elements of x in another order and shape; unitary.

    Args:
        domain: (C, *spatial). source: int64 of the spatial shape of the range: which element of the flattened spatial
            domain stands at each place; every one exactly once. complex_domain: whether it acts on complex tensors.
    """

    closed_form_pinv = unitary = True

    def __init__(self, domain: Sequence[int], source: Tensor, complex_domain: bool = False) -> None:
        super().__init__(domain, (domain[0], *source.shape), complex_domain, complex_domain)
        self.source = source.flatten()
        self.back = torch.argsort(self.source)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2)[..., self.source.to(x.device)].view(-1, *self.range)

    def backward(self, y: Tensor) -> Tensor:
        return y.flatten(2)[..., self.back.to(y.device)].view(-1, *self.domain)

    def pinv(self, y: Tensor) -> Tensor:
        return self.adjoint(y)
