"""Keep the measured coordinates and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cmmulti.operators.base import LinearOperator


class Restriction(LinearOperator):
    """``A x = x[mask]``: the coordinates where ``mask`` is 1, in order, as a flat vector; orthonormal rows.

    It is :class:`~cmmulti.operators.mask.Mask` without the zeros, for measurements that come as a list. Restrict another
    operator with ``Restriction(mask, other.range) @ other``.

    Args:
        mask: (*domain), broadcastable to it, of 0 and 1; one for the whole batch.
        domain: shape without the batch. complex_domain: whether it acts on complex tensors.
    """

    closed_form_pinv = True

    def __init__(self, mask: Tensor, domain: Sequence[int], complex_domain: bool = False) -> None:
        self.index = (mask != 0).expand(tuple(domain)).flatten().nonzero().flatten()
        super().__init__(domain, (len(self.index),), complex_domain, complex_domain)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, self.index.to(x.device)]

    def backward(self, y: Tensor) -> Tensor:
        flat = y.new_zeros(len(y), torch.Size(self.domain).numel())
        flat[:, self.index.to(y.device)] = y
        return flat.unflatten(1, self.domain)

    def pinv(self, y: Tensor) -> Tensor:
        return self.adjoint(y)
