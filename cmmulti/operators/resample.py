"""Coarser grids: block means, and separable resampling with an anti-aliasing kernel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cmmulti.errors import unknown_name
from cmmulti.operators.base import LinearOperator

Kernel = Literal["box", "linear", "cubic"]
KERNELS: tuple[Kernel, ...] = ("box", "linear", "cubic")


class BlockMean(LinearOperator):
    """The mean of each block of elements; a ragged last block is averaged over what it holds.

    Blocks do not overlap, so the rows are orthogonal and ``A^+ y`` repeats each mean over its block. Up to a scale per
    block this is coefficient 0 of the per-patch orthonormal basis of Consistency Models (arXiv 2303.01469, appendix D).

    Args:
        domain: (C, *spatial), real.
        factor: side of a block in elements, one per trailing axis, or one number for all but the first.
    """

    closed_form_pinv = True

    def __init__(self, domain: Sequence[int], factor: int | Sequence[int]) -> None:
        factors = (factor,) * (len(domain) - 1) if isinstance(factor, int) else tuple(factor)
        if any(f < 1 for f in factors) or not 1 <= len(factors) <= len(domain):
            raise ValueError(f"BlockMean: expected block sides >= 1 for up to {len(domain)} axes, got {factors}")
        lead, self.sizes = tuple(domain[: -len(factors)]), tuple(domain[-len(factors) :])
        self.factors = factors
        self.blocks = tuple(-(-n // f) for n, f in zip(self.sizes, factors, strict=True))
        super().__init__(domain, (*lead, *self.blocks))

    def forward(self, x: Tensor) -> Tensor:
        lead = x.dim() - len(self.factors)
        padding = [v for n, f in zip(reversed(self.sizes), reversed(self.factors), strict=True) for v in (0, -n % f)]
        x = F.pad(x, padding)
        for i, (blocks, f) in enumerate(zip(self.blocks, self.factors, strict=True)):
            x = x.unflatten(lead + i, (blocks, f)).sum(lead + i + 1)
        return x / self._counts(x)

    def backward(self, y: Tensor) -> Tensor:
        return self._repeat(y / self._counts(y))

    def pinv(self, y: Tensor) -> Tensor:
        self._check(y, self.range, "range")
        return self._repeat(y)

    def _counts(self, like: Tensor) -> Tensor:
        """How many elements each block holds, (*blocks)."""
        counts = torch.ones((), dtype=like.dtype, device=like.device)
        for n, f, blocks in zip(self.sizes, self.factors, self.blocks, strict=True):
            axis = torch.full((blocks,), f, dtype=like.dtype, device=like.device)
            axis[-1] = n - f * (blocks - 1)
            counts = counts[..., None] * axis
        return counts

    def _repeat(self, y: Tensor) -> Tensor:
        lead = y.dim() - len(self.factors)
        for i, (n, f) in enumerate(zip(self.sizes, self.factors, strict=True)):
            y = y.repeat_interleave(f, lead + i).narrow(lead + i, 0, n)
        return y


class Resample(LinearOperator):
    """Separable resampling to another grid over the same extent, weights as ``F.interpolate`` with antialiasing.

    Each axis is a matrix, kept in float64; the pseudo-inverse is the product of theirs and therefore exact.

    Args:
        domain: (C, *spatial), real. size: new spatial shape, one number per trailing axis.
        kernel: ``"box"`` (mean over the cell), ``"linear"``, or ``"cubic"`` (Keys, a = -0.5: that of Pillow). It is
            widened by the reduction, which keeps fine detail from folding into the coarse grid.
    """

    closed_form_pinv = True

    def __init__(self, domain: Sequence[int], size: Sequence[int], kernel: Kernel = "cubic") -> None:
        if kernel not in KERNELS:
            raise unknown_name("resampling kernel", kernel, KERNELS)
        if any(n < 1 for n in size) or not 1 <= len(size) <= len(domain):
            raise ValueError(f"Resample: expected sizes >= 1 for up to {len(domain)} axes, got {tuple(size)}")
        super().__init__(domain, (*domain[: -len(size)], *size))
        old = domain[-len(size) :]
        self.matrices = [resampling_matrix(a, b, kernel) for a, b in zip(old, size, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        return _along_axes(x, self.matrices)

    def backward(self, y: Tensor) -> Tensor:
        return _along_axes(y, [m.T for m in self.matrices])

    def pinv(self, y: Tensor) -> Tensor:
        self._check(y, self.range, "range")
        return _along_axes(y, self._inverses)

    @cached_property
    def _inverses(self) -> list[Tensor]:
        """(old, new) of each axis: made once, for a solver asks at every step."""
        return [torch.linalg.pinv(m) for m in self.matrices]


def resampling_matrix(old: int, new: int, kernel: Kernel = "cubic") -> Tensor:
    """(new, old) float64: row i weighs the old elements for new element i; rows sum to 1, edges are renormalised."""
    ratio = old / new
    stretch = max(ratio, 1.0)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * ratio - 0.5
    distance = (torch.arange(old, dtype=torch.float64) - centres[:, None]).abs() / stretch
    if kernel == "box":
        # The overlap of each old element with the new cell, so that ratios which are no integers keep the mean.
        weights = ((1 + ratio) / 2 - distance * stretch).clamp(0, min(ratio, 1.0))
    elif kernel == "linear":
        weights = (1 - distance).clamp_min(0)
    else:
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)


def _along_axes(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Each matrix applied to its trailing axis."""
    for i, matrix in enumerate(matrices):
        axis = x.dim() - len(matrices) + i
        x = (x.movedim(axis, -1) @ matrix.to(x).T).movedim(-1, axis)
    return x
