"""Undersampled k-space in a reconstruction's order, and the images that total variation finds in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cmmulti.operators.base import LinearOperator
from cmmulti.operators.coils import Coils
from cmmulti.operators.fourier import Fourier, Phase
from cmmulti.operators.mask import Mask
from modalities.volume.tv import tv_reconstruct

TOGETHER = 4
"""Slices that total variation works on at a time."""

WEIGHTS = {"real": {4.0: 0.003, 8.0: 0.01}, "complex": {4.0: 0.006, 8.0: 0.008}}
"""Acceleration -> weight of total variation relative to the 99.5th percentile, the best on validation heads with noise of
0.01."""

WEIGHT_COILS = 0.002
"""The same of eight coils and sixteen, at any acceleration: they leave less to be guessed."""

LEAST_WEIGHT = 0.25
"""The least per standard deviation of the noise: what heads with noise of 0.03 and 0.1 need."""


@dataclass(frozen=True)
class Sampled:
    """What the coils measured of some slices.

    Args:
        y: complex64, 0 where not measured. Of whole columns (parts, coils, rows, kx): the transform along ky is undone
            once and the columns' alone is left, at a third of the time. Of points (parts, coils, ky, kx).
        mask: bool, the measured columns (kx) or points (ky, kx).
        percentile: the 99.5th of the magnitude, the unit of total variation. noise: per real component of y.
        sensitivities: complex64 (parts, coils, ky, kx); None for one coil, which sees the image itself.
    """

    y: Tensor
    mask: Tensor
    percentile: float
    noise: float
    sensitivities: Tensor | None = None

    @classmethod
    def of(cls, kspace: Tensor, mask: Tensor, percentile: float, noise: float, sensitivities: Tensor | None) -> Sampled:
        """From k-space (parts, coils, ky, kx). The transform along ky is unitary: the noise stays what it is."""
        if mask.dim() == 1:
            coils, ky, kx = kspace.shape[1:]
            kspace = Fourier((coils, kx, ky), dims=1).adjoint(kspace.mT).mT.contiguous()
        return cls(kspace, mask, percentile, noise, sensitivities)

    @property
    def points(self) -> int:
        """How many points (ky, kx) of a slice each coil measured."""
        rows = self.y.shape[2] if self.mask.dim() == 1 else 1
        return rows * int(self.mask.sum())

    @property
    def coils(self) -> LinearOperator:
        """The coils' complex images (coils, ky, kx) -> y."""
        shape = self.y.shape[1:]
        return Mask(self.mask, shape, complex_domain=True) @ Fourier(shape, dims=self.mask.dim())

    def acquisition(self, parts: slice = slice(None)) -> LinearOperator:
        """The complex image (1, ky, kx) -> y of these parts."""
        return self.coils if self.sensitivities is None else self.coils @ Coils(self.sensitivities[parts])

    def some(self, count: int) -> Sampled:
        """At most so many of the slices, evenly spread."""
        parts = torch.linspace(0, len(self.y) - 1, min(len(self.y), count)).round().long()
        maps = None if self.sensitivities is None else self.sensitivities[parts]
        return replace(self, y=self.y[parts], sensitivities=maps)

    def without(self, lost: Tensor) -> Sampled:
        """As if what ``lost``, of the mask's shape, names had not been measured."""
        return replace(self, y=self.y * ~lost, mask=self.mask & ~lost)

    def zero_filled(self) -> Tensor:
        """Magnitude (parts, 1, ky, kx), the root sum of squares over the coils."""
        return self.coils.adjoint(self.y).abs().square().sum(1, keepdim=True).sqrt()

    def tv(self, phase: Tensor | None = None, weight: float | None = None, iterations: int = 100) -> Tensor:
        """The total-variation image (parts, 1, ky, kx): complex, or real and non-negative under a ``phase``."""
        if weight is None:
            weight = max(self._weight("complex" if phase is None else "real"), LEAST_WEIGHT * self.noise / self.percentile)
        images = []
        # Few slices at a time stay in the processor's cache; more take several times as long each.
        for first in range(0, len(self.y), TOGETHER):
            parts = slice(first, first + TOGETHER)
            operator = self.acquisition(parts) if phase is None else self.acquisition(parts) @ Phase(phase[parts])
            # In units of the percentile: single precision, weights and step sizes then suit every scanner's numbers.
            y = self.y[parts] / self.percentile
            images.append(tv_reconstruct(operator, y, weight, operator.adjoint(y), 1.0, phase is not None, iterations))
        return self.percentile * torch.cat(images)

    def _weight(self, kind: str) -> float:
        if self.y.shape[1] > 1:
            return WEIGHT_COILS
        acceleration = self.mask.numel() / int(self.mask.sum())
        return float(np.interp(acceleration, list(WEIGHTS[kind]), list(WEIGHTS[kind].values())))
