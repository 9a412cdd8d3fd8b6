"""A sinogram made ready for reconstruction: geometry, projector, noise, and the simpler answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cmmulti.archives import physical_memory
from cmmulti.errors import UserError
from cmmulti.operators.radon import Radon, fbp
from cmmulti.operators.weights import Weights
from modalities.volume.ct.sinogram import PHOTONS, Sinogram
from modalities.volume.settings import VolumeSettings
from modalities.volume.stacks import Stack, covering_size
from modalities.volume.tv import tv_reconstruct

MODEL_ERROR = 0.003
"""How far line integrals through square pixels lie from those of a finer projector, root mean square, without unit."""

BIN_RATIO = 20
"""Most pixels that a bin, and bins that a pixel, may be wide."""

ENTRY_BYTES = 50
"""Memory that an entry of the projector's matrix takes while it is made; it has 1.1 + 1.3 pixel / bin of them per pixel and
view."""

TV_SPARSE, TV_NOISE = 0.0027, 0.27
"""TV weight for attenuation in units of water's and line integrals without unit: what 32 to 64 views without noise need,
and what is added to it per standard deviation of the noise behind the object. The best on validation slices."""

SHADED = 0.5
"""Least line integral of a bin that lies behind the object."""


@dataclass(frozen=True)
class MeasuredCT:
    """A sinogram made ready, parts in the model's order.

    Args:
        stack: its geometry. radon: attenuation in 1/mm -> line integrals. y: float32 (parts, 1, views, bins).
        photons: I0. mu_water: 1/mm. notes: what the reader of a result should know of how the measurement was taken.
    """

    stack: Stack
    radon: Radon
    y: Tensor
    photons: float
    mu_water: float
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, item: Sinogram, settings: VolumeSettings, dose: float | None, name: str, resample: bool = False
    ) -> MeasuredCT:
        slices, _, bins = item.sinogram.shape
        size = covering_size(item.affine, settings) if item.size is None else item.size
        stack = Stack((*size, slices), item.affine, settings, resample, item.stated)
        stack.check(name, "ct")
        mm = [float(v) for v in stack.blank.voxel_mm[:2]]
        if abs(mm[0] / mm[1] - 1) > 1e-3:
            raise UserError(f"{name}: pixels of {mm[0]:.4g} x {mm[1]:.4g} mm; expected square ones")
        _check_projector(item, size, mm[0], name)
        angles = torch.deg2rad(torch.from_numpy(item.angles_deg))
        radon = Radon((1, *stack.size[:2]), angles, mm[0], bins, item.bin_mm)
        y = torch.from_numpy(item.sinogram)[stack.slices, None]
        photons = next((v for v in (dose, item.photons) if v is not None), None)
        if photons is not None:
            return cls(stack, radon, y, photons, item.mu_water)
        estimate = estimated_photons(y)
        told = "no noise was seen" if estimate is None else f"{estimate:.3g} photons per bin and view were estimated"
        note = f"the sinogram does not state its photons: {told}; --dose states them"
        return cls(stack, radon, y, PHOTONS[1] if estimate is None else estimate, item.mu_water, (note,))

    @cached_property
    def variance(self) -> Tensor:
        """Of the photon noise in each element of ``y``: var(-ln N) is about 1 / N, and N about photons exp(-y)."""
        return self.y.exp() / self.photons

    @cached_property
    def whitening(self) -> Weights:
        """Makes the noise of ``y``, the projector's own error included, white and of standard deviation 1."""
        return Weights((self.variance + MODEL_ERROR**2).rsqrt())

    @property
    def tv_weight(self) -> float:
        """For attenuation in units of water's and whitened noise: the more noise the less of what remains is the object."""
        shaded = self.y > SHADED
        noise = float((self.variance[shaded] if shaded.any() else self.variance).median().sqrt())
        return (TV_SPARSE + TV_NOISE * noise) / (noise**2 + MODEL_ERROR**2)

    def fbp(self) -> Tensor:
        """Attenuation (parts, 1, rows, columns), 1/mm, not negative."""
        return fbp(self.radon, self.y).clamp_min(0)

    def tv(self, weight: float | None = None, iterations: int = 200) -> Tensor:
        """Attenuation by total variation with the same projector, weights and non-negativity."""
        chosen = self.tv_weight if weight is None else weight
        operator = self.whitening @ self.radon
        y, water = self.whitening(self.y), self.mu_water
        return tv_reconstruct(operator, y, chosen / water, self.fbp(), nonnegative=True, iterations=iterations)

    def to_hu(self, mu: Tensor) -> Tensor:
        return 1000 * (mu / self.mu_water - 1)


def _check_projector(item: Sinogram, size: tuple[int, int], pixel_mm: float, name: str) -> None:
    """Refuse a detector that is none beside the pixels, and a projector that would not fit into memory."""
    if not 1 / BIN_RATIO <= item.bin_mm / pixel_mm <= BIN_RATIO:
        raise UserError(
            f"{name}: bins of {item.bin_mm:.4g} mm with pixels of {pixel_mm:.4g} mm; expected neither more than "
            f"{BIN_RATIO} times as wide as the other"
        )
    views = len(item.angles_deg)
    needed = ENTRY_BYTES * (1.1 + 1.3 * pixel_mm / item.bin_mm) * views * math.prod(size)
    if needed > physical_memory() / 2:
        raise UserError(
            f"{name}: {views} views of {size[0]} x {size[1]} pixels need about {needed / 2**30:.0f} GiB for the projector, "
            f"more than half of the memory; expected fewer views or coarser pixels"
        )


def estimated_photons(sinogram: Tensor) -> float | None:
    """Unattenuated photons per bin, from the scatter between neighbouring bins; None where there is none.

    Args:
        sinogram: (parts, 1, views, bins).
    """
    second = sinogram[..., 2:] - 2 * sinogram[..., 1:-1] + sinogram[..., :-2]
    # No beam leaves three neighbours that are 0 exactly: such bins were filled up, or cut off.
    measured = (sinogram[..., 2:] != 0) | (sinogram[..., 1:-1] != 0) | (sinogram[..., :-2] != 0)
    # Air is smooth, and there the noise is that of the unattenuated beam; without air the object's edges count as noise.
    air = second[measured & (sinogram[..., 1:-1].abs() < 0.1)]
    seen = air if air.numel() >= 1000 else second[measured]
    std = float(seen.abs().median()) / 0.6745 / 6**0.5 if seen.numel() else 0.0
    return 1 / std**2 if std > 1e-6 else None
