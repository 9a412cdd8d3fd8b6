"""Mixing channels: grey from colour, and any other linear combination at each position."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from cmmulti.operators.base import LinearOperator

LUMA = (0.2989, 0.5870, 0.1140)
"""Weights of red, green and blue in a grey picture (ITU-R BT.601), as Consistency Models colourise with."""


class ChannelMix(LinearOperator):
    """``y_o = sum_c M[o, c] x_c`` at every position; the pseudo-inverse is that of M and therefore exact.

    Args:
        matrix: M (out, C), real. domain: (C, *spatial). complex_domain: whether it acts on complex tensors.
    """

    closed_form_pinv = True

    def __init__(self, matrix: Tensor, domain: Sequence[int], complex_domain: bool = False) -> None:
        if matrix.dim() != 2 or matrix.shape[1] != domain[0]:
            raise ValueError(f"ChannelMix: expected a matrix (out, {domain[0]}), got {tuple(matrix.shape)}")
        super().__init__(domain, (matrix.shape[0], *domain[1:]), complex_domain, complex_domain)
        self.matrix = matrix.cpu().double()
        identity = torch.eye(domain[0], dtype=torch.float64)
        self.unitary = matrix.shape[0] == domain[0] and torch.allclose(self.matrix.T @ self.matrix, identity, atol=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        return _mix(self.matrix, x)

    def backward(self, y: Tensor) -> Tensor:
        return _mix(self.matrix.T, y)

    def pinv(self, y: Tensor) -> Tensor:
        self._check(y, self.range, "range")
        return _mix(self._inverse, y)

    @cached_property
    def _inverse(self) -> Tensor:
        """(C, out): made once, for a solver asks at every step."""
        return torch.linalg.pinv(self.matrix)


def grey(domain: Sequence[int]) -> ChannelMix:
    """RGB (3, *spatial) -> grey (1, *spatial) by :data:`LUMA`; holding it fixed is colourisation."""
    return ChannelMix(torch.tensor([LUMA], dtype=torch.float64), domain)


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("oc,bc...->bo...", matrix.to(x), x)
