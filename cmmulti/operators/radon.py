"""Parallel-beam projection with its exact adjoint, and filtered back-projection."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import scipy
import torch
from torch import Tensor, fft

from cmmulti.operators.base import LinearOperator
from cmmulti.operators.cg import conjugate_gradient


class Radon(LinearOperator):
    """Line integrals of images: attenuation per mm in, ``sum mu dl`` out.

    Each value is the mean, over the width of one detector bin, of the line integrals through square pixels, exactly: the
    shadow of a pixel at angle theta is a trapezoid, the convolution of boxes as wide as ``pixel |cos theta|`` and
    ``pixel |sin theta|``.

    Args:
        domain: (C, rows, columns). angles: (views,) radians. At 0 rays run down the columns and bins count from left to
            right; at pi / 2 rays run along the rows and bins count from top to bottom.
        pixel_mm: side of a pixel. bin_mm: width of a bin, that of a pixel by default.
        bins: their number, centred on the image; by default enough for its diagonal.

    The matrix is made when it is first used, and kept: about 3 entries of 8 bytes (float32) per pixel and view, twice.
    """

    def __init__(
        self,
        domain: Sequence[int],
        angles: Tensor,
        pixel_mm: float = 1.0,
        bins: int | None = None,
        bin_mm: float | None = None,
    ) -> None:
        self.angles = angles.double().cpu()
        self.pixel_mm = pixel_mm
        self.bin_mm = pixel_mm if bin_mm is None else bin_mm
        self.bins = covering_bins(domain[-2:], pixel_mm, self.bin_mm) if bins is None else bins
        super().__init__(domain, (*domain[:-2], len(angles), self.bins))
        self._matrices: dict[Any, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        return _multiplied(x, *self._matrix(x)).view(-1, *self.range)

    def backward(self, y: Tensor) -> Tensor:
        matrix, transposed = self._matrix(y)
        return _multiplied(y, transposed, matrix).view(-1, *self.domain)

    def pinv(self, y: Tensor) -> Tensor:
        """By CG as everywhere, but to rounding error: weak singular vectors, of which there are many, converge last."""
        right = self.adjoint(y)
        tolerance = 10 * torch.finfo(y.dtype).eps
        return conjugate_gradient(lambda x: self.adjoint(self(x)), right, torch.zeros_like(right), 2000, tolerance)

    def _matrix(self, like: Tensor) -> tuple[Tensor, Tensor]:
        key = (like.dtype, like.device)
        if key not in self._matrices:
            rows = [self._view(angle) for angle in self.angles.tolist()]
            matrix = scipy.sparse.vstack(rows, format="csr")
            self._matrices[key] = _torch_csr(matrix, like), _torch_csr(matrix.T.tocsr(), like)
        return self._matrices[key]

    def _view(self, angle: float) -> scipy.sparse.csr_matrix:
        """(bins, pixels) of one view."""
        rows, columns = self.domain[-2:]
        cos, sin = math.cos(angle), math.sin(angle)
        down = (np.arange(rows) - (rows - 1) / 2)[:, None] * (self.pixel_mm * sin)
        centre = ((np.arange(columns) - (columns - 1) / 2) * (self.pixel_mm * cos) + down).ravel()
        a, b = sorted((self.pixel_mm * abs(cos), self.pixel_mm * abs(sin)), reverse=True)
        # Edge j lies at (j - bins / 2) bin_mm; the shadow reaches (a + b) / 2 to either side of the centre.
        first = np.floor((centre - (a + b) / 2) / self.bin_mm + self.bins / 2).astype(np.int64)
        below = np.zeros_like(centre)
        bins, pixels, weights = [], [], []
        for k in range(math.ceil((a + b) / self.bin_mm) + 1):
            place = first + k
            above = _shadow((place + 1 - self.bins / 2) * self.bin_mm - centre, a, b)
            weight = (above - below) * (self.pixel_mm**2 / self.bin_mm)
            seen = np.flatnonzero((weight > 0) & (place >= 0) & (place < self.bins))
            bins.append(place[seen])
            pixels.append(seen)
            weights.append(weight[seen])
            below = above
        entries = np.concatenate(weights), (np.concatenate(bins), np.concatenate(pixels))
        return scipy.sparse.csr_matrix(entries, shape=(self.bins, rows * columns))


def covering_bins(size: Sequence[int], pixel_mm: float, bin_mm: float) -> int:
    """How many bins see the whole of an image of ``size`` from every side."""
    return math.ceil(math.hypot(*size) * pixel_mm / bin_mm) + 1


def fbp(radon: Radon, sinogram: Tensor) -> Tensor:
    """Filtered back-projection with the ramp filter (Kak and Slaney 1988, section 3.3).

    Args:
        sinogram: (B, *radon.range), views that cover 180 degrees.

    Returns:
        (B, *radon.domain) in 1/mm; quantitative where the object lies within the detector.
    """
    n, spacing = radon.bins, radon.bin_mm
    distance = torch.arange(-n + 1, n, dtype=torch.float64)
    # The band-limited ramp in space (eq. 61): its mean is 0 only for an endless detector, which keeps the level right.
    ramp = torch.where(distance % 2 == 0, 0.0, -1 / (torch.pi * distance * spacing) ** 2)
    ramp[n - 1] = 1 / (4 * spacing**2)
    length = 3 * n - 2
    spectrum = fft.rfft(ramp.to(sinogram), length)
    filtered = fft.irfft(fft.rfft(sinogram, length) * spectrum, length)[..., n - 1 : 2 * n - 1] * spacing
    weights = _angular_weights(radon.angles).to(sinogram)[:, None]
    return radon.adjoint((filtered * weights).contiguous()) * (spacing / radon.pixel_mm**2)


def _angular_weights(angles: Tensor) -> Tensor:
    """(views,) share of the half circle that each view stands for: half the gaps to its neighbours, modulo pi."""
    turned, order = torch.sort(angles % torch.pi)
    gaps = torch.diff(turned, append=turned[:1] + torch.pi)
    weights = torch.empty_like(angles)
    weights[order] = (gaps + gaps.roll(1)) / 2
    return weights


def _shadow(distance: np.ndarray, a: float, b: float) -> np.ndarray:
    """Share of a pixel's shadow below ``distance`` from its centre: boxes of widths ``a >= b`` convolved, integrated."""
    if b < 1e-6 * a:
        return np.clip(distance / a + 0.5, 0, 1)

    def ramp(t: np.ndarray) -> np.ndarray:
        return np.maximum(t, 0) ** 2 / 2

    outer, inner = (a + b) / 2, (a - b) / 2
    share = ramp(distance + outer) - ramp(distance + inner) - ramp(distance - inner) + ramp(distance - outer)
    return np.clip(share / (a * b), 0, 1)


def _torch_csr(matrix: scipy.sparse.csr_matrix, like: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr),
            torch.from_numpy(matrix.indices),
            torch.from_numpy(matrix.data).to(like.dtype),
            size=matrix.shape,
            check_invariants=False,
        ).to(like.device)


def _multiplied(x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
    """(B, C, h, w) -> (B * C, rows of the matrix)."""
    return cast(Tensor, _SparseProduct.apply(x.flatten(2).flatten(0, 1), matrix, transposed))


class _SparseProduct(torch.autograd.Function):
    """``x M^T`` for rows x and a sparse M, whose transpose serves the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.matrices = matrix, transposed
        return (matrix @ x.T).T.contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        matrix, transposed = ctx.matrices
        return _SparseProduct.apply(gradients[0], transposed, matrix), None, None
