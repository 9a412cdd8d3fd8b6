"""The centred orthonormal Fourier transform, and real images with a known phase."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fft

from cmmulti.operators.base import LinearOperator


class Fourier(LinearOperator):
    """Image -> k-space: zero frequency at ``n // 2``, orthonormal, over the last ``dims`` axes; unitary.

    Args:
        domain: (..., *spatial). dims: how many trailing axes are transformed.
    """

    closed_form_pinv = unitary = True

    def __init__(self, domain: Sequence[int], dims: int = 2) -> None:
        super().__init__(domain, domain, complex_domain=True, complex_range=True)
        self.axes = tuple(range(-dims, 0))

    def forward(self, x: Tensor) -> Tensor:
        return fft.fftshift(fft.fftn(fft.ifftshift(x, self.axes), dim=self.axes, norm="ortho"), self.axes)

    def backward(self, y: Tensor) -> Tensor:
        return fft.fftshift(fft.ifftn(fft.ifftshift(y, self.axes), dim=self.axes, norm="ortho"), self.axes)

    def pinv(self, y: Tensor) -> Tensor:
        return self.adjoint(y)


class Phase(LinearOperator):
    """A real image times a known phase: ``A x = x exp(i phi)``; ``A^H y = Re(exp(-i phi) y)``.

    Args:
        phase: phi in radians, (B or 1, *domain).
    """

    closed_form_pinv = True

    def __init__(self, phase: Tensor) -> None:
        super().__init__(phase.shape[1:], phase.shape[1:], complex_range=True)
        self.factor = torch.polar(torch.ones_like(phase), phase)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor.to(x.device, x.dtype.to_complex())

    def backward(self, y: Tensor) -> Tensor:
        return (y * self.factor.to(y).conj()).real

    def pinv(self, y: Tensor) -> Tensor:
        return self.adjoint(y)
