"""Coil sensitivities from undersampled k-space alone: smooth, with the smooth part of the image's phase in them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from cmmulti.operators.fourier import Fourier
from modalities.volume.mri.sampled import Sampled

ITERATIONS = 40
"""Of total variation, for the image that they are taken from."""


def estimated_sensitivities(sampled: Sampled, centre: Tensor, window: Tensor) -> Tensor:
    """Complex (parts, coils, ky, kx), ``sum |S_c|^2 = 1``.

    Those of the fully sampled centre give an image by total variation. What the coils see of it, with their measured lines
    put in, gives them at the resolution of ``window``: that halves their error where the centre has few lines.

    Args:
        centre, window: (ky, kx), weights of spatial frequencies, of the centre and of what is smooth.
    """
    A, y = sampled.coils, sampled.y
    maps = smooth_maps(A.adjoint(y), centre)
    seen = maps * replace(sampled, sensitivities=maps).tv(iterations=ITERATIONS)
    return smooth_maps(seen + A.adjoint(y - A(seen)), window)


def smooth_maps(images: Tensor, window: Tensor) -> Tensor:
    """The coils' images (parts, coils, ky, kx) without the spatial frequencies to which ``window`` gives no weight, over
    the root sum of squares of all of them."""
    F = Fourier(images.shape[1:])
    low = F.adjoint(window * F(images))
    size = low.abs().square().sum(1, keepdim=True).sqrt()
    return (low / size).where(size > 0, images.shape[1] ** -0.5)
