"""K-space made ready for reconstruction: geometry, scale, noise, sensitivities and phase estimated from it, and the simpler
answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modalities.volume.mri import estimates
from modalities.volume.mri.kspace import KSpace
from modalities.volume.mri.phase import ITERATIONS, phase_of, smoothness
from modalities.volume.mri.sampled import Sampled
from modalities.volume.mri.sensitivities import estimated_sensitivities
from modalities.volume.settings import VolumeSettings
from modalities.volume.stacks import Stack

SENSITIVITIES_MM = 40.0
"""Wavelength at which the weight of a spatial frequency in sensitivities has fallen to one half."""

PHASES_MM = (40.0, 20.0, 10.0, 0.0)
"""The same of the phase, one of these; 0 leaves it free. Simulated phases are smooth, those of scans have edges where fat
meets water."""


@dataclass(frozen=True)
class MeasuredMRI:
    """A measurement with all that was estimated from it, parts in the model's order.

    Args:
        stack: its geometry. sampled: its numbers, with the coils' sensitivities where there are several.
        phase: float32 radians (parts, 1, ky, kx). window: (ky, kx), weights of the frequencies that it is made of.
        phase_mm: their wavelength, the one of ``PHASES_MM`` that was chosen; None for the centre's own.
        scale: what is 1 in model space, the model's percentile of the magnitude.
    """

    stack: Stack
    sampled: Sampled
    phase: Tensor
    window: Tensor
    phase_mm: float | None
    scale: float

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
        slices, coils, ky, kx = item.kspace.shape
        stack = Stack((ky, kx, slices), item.affine, settings, resample, item.stated)
        stack.check(name, "mr")
        if relative_noise is None:
            noise = estimates.estimated_noise(item)
        else:
            noise = relative_noise * estimates.reference_level(item)
        stated = None if item.sensitivities is None else torch.from_numpy(item.sensitivities)[stack.slices]
        sampled = Sampled.of(
            torch.from_numpy(item.kspace)[stack.slices],
            torch.from_numpy(item.mask),
            estimates.estimated_percentile(item),
            noise,
            stated,
        )
        centre = estimates.centre_window(item)
        if coils > 1 and stated is None:
            smooth = estimates.smooth_window(item, SENSITIVITIES_MM)
            sampled = replace(sampled, sensitivities=estimated_sensitivities(sampled, centre, smooth))
        image = sampled.tv(iterations=ITERATIONS)
        if coils == 1:
            scale = estimates.estimated_percentile(item, settings.percentile)
        else:
            # What is not measured lowers the coils' root sum of squares by more than it does one coil's magnitude.
            scale = estimates.full_percentile(image.abs(), settings.percentile)
        if phase == "centre":
            return cls(stack, sampled, phase_of(sampled.acquisition().adjoint(sampled.y), centre), centre, None, scale)
        windows = {mm: estimates.smooth_window(item, mm) for mm in PHASES_MM}
        mm = smoothness(sampled, windows)
        return cls(stack, sampled, phase_of(image, windows[mm]), windows[mm], mm, scale)

    def tv(self, complex_image: bool, weight: float | None = None) -> Tensor:
        """Magnitude of the total-variation image: real and non-negative with the phase, or complex."""
        return self.sampled.tv(None if complex_image else self.phase, weight).abs()

    def note(self, item: KSpace) -> str:
        """What was estimated of the measurement ``item``, for the reader of a result."""
        found = self.sampled.sensitivities is not None and item.sensitivities is None
        what = "scale, sensitivities and phase" if found else "scale and phase"
        level = f"noise level {self.sampled.noise:.4g} per real component"
        if self.phase_mm is None:
            return f"{level}, {what} from the measurements alone"
        smooth = f"smooth to {self.phase_mm:g} mm" if self.phase_mm else "free to change from pixel to pixel"
        return f"{level}, {what} ({smooth}) from the measurements alone"
