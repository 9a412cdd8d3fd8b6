"""K-space made ready for reconstruction: geometry, scale, noise and phase estimated from it, and the simpler answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cmmulti.operators.base import LinearOperator
from cmmulti.operators.fourier import Fourier, Phase
from cmmulti.operators.mask import Mask
from modalities.volume import estimates
from modalities.volume.kspace import KSpace
from modalities.volume.settings import VolumeSettings
from modalities.volume.stacks import Stack
from modalities.volume.tv import tv_reconstruct

SMOOTHNESS_MM = 40.0
"""Wavelength at which the weight of a spatial frequency in the phase has fallen to one half."""

PHASE_ITERATIONS = 40
"""Of total variation, for the complex image whose smoothed phase is taken."""

TOGETHER = 4
"""Slices that total variation works on at a time."""

TV_WEIGHTS = {"real": {4.0: 0.003, 8.0: 0.01}, "complex": {4.0: 0.006, 8.0: 0.008}}
"""Acceleration -> TV weight relative to the 99.5th percentile, the best on validation heads with noise of 0.01."""

TV_NOISE = 0.25
"""Least TV weight per standard deviation of the noise: what heads with noise of 0.03 and 0.1 need."""


@dataclass(frozen=True)
class MeasuredMRI:
    """A measurement with all that was estimated from it, parts in the model's order.

    Args:
        stack: its geometry. y: complex64 (parts, 1, rows, kx): all of ky is measured, so that its transform is undone once
            and the columns' alone is left, at a third of the time. acquisition: complex images -> y.
        phase: float32 (parts, 1, ky, kx). window: (ky, kx), weights of the frequencies that a smooth phase is made of.
        percentile: the 99.5th of the magnitude, the unit of total variation. scale: the model's own, at 1 in model space.
        noise: per real component. acceleration: of the mask in fact.
    """

    stack: Stack
    y: Tensor
    acquisition: LinearOperator
    phase: Tensor
    window: Tensor
    percentile: float
    scale: float
    noise: float
    acceleration: float

    @classmethod
    def of(
        cls,
        item: KSpace,
        settings: VolumeSettings,
        relative_noise: float | None,
        name: str,
        phase: str = "tracked",
        resample: bool = False,
    ) -> MeasuredMRI:
        slices, ky, kx = item.kspace.shape
        stack = Stack((ky, kx, slices), item.affine, settings, resample, item.stated)
        stack.check(name, "mr")
        if relative_noise is None:
            noise = estimates.estimated_noise(item)
        else:
            noise = relative_noise * estimates.reference_level(item)
        measured = cls(
            stack,
            _rows(torch.from_numpy(item.kspace))[stack.slices, None],
            Mask(torch.from_numpy(item.mask), (1, ky, kx), complex_domain=True) @ Fourier((1, ky, kx), dims=1),
            estimates.centre_phase(item)[stack.slices],
            phase_window(item),
            estimates.estimated_percentile(item),
            estimates.estimated_percentile(item, settings.percentile),
            noise,
            kx / int(item.mask.sum()),
        )
        return measured if phase == "centre" else replace(measured, phase=measured.smoothed_phase())

    def smoothed_phase(self) -> Tensor:
        """The phase of the complex total-variation image, made of the window's frequencies: with few lines in the centre
        far closer than that of the centre alone."""
        F = Fourier(self.phase.shape[1:])
        return F.adjoint(self.window * F(self._tv(True, None, PHASE_ITERATIONS))).angle()

    def zero_filled(self) -> Tensor:
        """Magnitude (parts, 1, ky, kx)."""
        return self.acquisition.adjoint(self.y).abs()

    def tv(self, complex_image: bool, weight: float | None = None, iterations: int = 100) -> Tensor:
        """Magnitude of the total-variation image: real and non-negative with the phase, or complex."""
        return self.percentile * self._tv(complex_image, weight, iterations).abs()

    def _tv(self, complex_image: bool, weight: float | None, iterations: int) -> Tensor:
        """In units of the percentile: single precision, weights and step sizes then suit every scanner's numbers."""
        table = TV_WEIGHTS["complex" if complex_image else "real"]
        if weight is None:
            sparse = float(np.interp(self.acceleration, list(table), list(table.values())))
            weight = max(sparse, TV_NOISE * self.noise / self.percentile)
        images = []
        # Few slices at a time stay in the processor's cache; more take several times as long each.
        for y, phase in zip(self.y.split(TOGETHER), self.phase.split(TOGETHER), strict=True):
            operator = self.acquisition if complex_image else self.acquisition @ Phase(phase)
            y = y / self.percentile
            images.append(tv_reconstruct(operator, y, weight, operator.adjoint(y), 1.0, not complex_image, iterations))
        return torch.cat(images)


def _rows(kspace: Tensor) -> Tensor:
    """(slices, ky, kx) -> (slices, rows, kx); unitary, so that the noise stays what it is."""
    ky = kspace.shape[1]
    return Fourier((kspace.shape[2], ky), dims=1).adjoint(kspace.mT).mT.contiguous()


def phase_window(item: KSpace) -> Tensor:
    """Weights (ky, kx) of the spatial frequencies that a smooth phase is made of."""
    my, mx, _ = item.voxel_mm
    _, ny, nx = item.kspace.shape
    return estimates.hann(ny, 2 * ny * my / SMOOTHNESS_MM)[:, None] * estimates.hann(nx, 2 * nx * mx / SMOOTHNESS_MM)
