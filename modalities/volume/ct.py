"""Task ``ct``: slices from sparse parallel-beam views."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Item, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.noise import geometric
from cmmulti.operators.affine import Affine
from cmmulti.operators.radon import Radon, fbp
from cmmulti.operators.weights import Weights
from cmmulti.problems.base import Noised, Problem
from cmmulti.problems.proximal_cg import ProximalCG
from cmmulti.randomness import SampleRandomness
from modalities.volume import representation
from modalities.volume.item import Volume
from modalities.volume.npz import physical_memory
from modalities.volume.settings import VolumeSettings
from modalities.volume.simulate_ct import simulate_sinogram
from modalities.volume.sinogram import PHOTONS, Sinogram, load_sinogram, save_sinogram
from modalities.volume.stacks import Stack, covering_size, slices_last
from modalities.volume.tv import tv_reconstruct

NOTE = "simulated from a reconstructed scan with a parallel beam, optimistic"

MODEL_ERROR = 0.003
"""How far line integrals through square pixels lie from those of a finer projector, root mean square, without unit."""

ITERATIONS = 10
"""Of conjugate gradient at each step; projections are cheap beside the network."""

BIN_RATIO = 20
"""Most pixels that a bin, and bins that a pixel, may be wide."""

ENTRY_BYTES = 50
"""Memory that an entry of the projector's matrix takes while it is made; it has 1.1 + 1.3 pixel / bin of them per pixel and
view."""

START, START_OF_ONE, STOP = 0.1, 0.05, 0.01
"""First noise level, model space, that of one step alone, and the last. Chosen on six validation slices, 32 and 64 views:
four steps from 0.1 are 0.3 and 0.1 dB nearer than from 0.05, one step 0.1 dB nearer and 0.3 dB farther."""

START_ITERATIONS = 60
"""Of total variation, for the image to start from."""

TV_SPARSE, TV_NOISE = 0.0027, 0.27
"""TV weight for attenuation in units of water's and line integrals without unit: what 32 to 64 views without noise need,
and what is added to it per standard deviation of the noise behind the object. The best on validation slices."""

SHADED = 0.5
"""Least line integral of a bin that lies behind the object."""


class CTOptions(TaskOptions):
    """Options of :class:`CT`."""

    simulate: bool = Field(False, description="measure a CT scan first (optimistic)")
    views: int = Field(32, ge=2, le=4096, description="simulation: views over 180 degrees")
    dose: float | None = Field(
        None,
        ge=PHOTONS[0],
        le=PHOTONS[1],
        description="unattenuated photons per detector bin and view (simulation: no noise without it)",
    )
    noise_seed: int = Field(0, ge=0, lt=2**32, description="simulation: seed of the photon noise")
    start_level: float | None = Field(
        None, gt=0, description=f"first noise level, model space (default: {START}, of one step {START_OF_ONE})"
    )
    resample: bool = Field(False, description="let the model work on its own pixel size where the input's differs too much")


@dataclass(frozen=True)
class Measured:
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
    ) -> Measured:
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


class CT(Task):
    """Parallel-beam CT from few views: proximal CG on the attenuation, photon noise weighted."""

    name: ClassVar[str] = "ct"
    verb: ClassVar[Literal["edit", "reconstruct"]] = "reconstruct"
    summary: ClassVar[str] = "CT slices from sparse parallel-beam views (.npz), or simulated from a CT scan; result in HU"
    Options: ClassVar[type[TaskOptions]] = CTOptions

    def prepare(self, modality: Any, source: Path | Item, options: Any, model: Model) -> Assignment:
        settings: VolumeSettings = modality.settings
        name = str(source) if isinstance(source, Path) else "input"
        if isinstance(source, Path) and source.suffix.lower() == ".npz":
            source = load_sinogram(source)
        truth: Volume | None = None
        if isinstance(source, Sinogram):
            if options.simulate:
                raise UserError(f"{name}: is a measured sinogram already; leave out --simulate")
            item = source
        else:
            if not options.simulate:
                raise UserError(f"{name}: expected a measured sinogram (.npz); a CT scan is accepted with --simulate")
            truth = modality.load(source) if isinstance(source, Path) else source
            item = simulated(truth, settings, options)
        return _assignment(Measured.of(item, settings, options.dose, name, options.resample), item, truth, options, model)


def simulated(volume: Volume, settings: VolumeSettings, options: CTOptions) -> Sinogram:
    """The sinogram that the options ask to be measured of a CT scan."""
    representation.check_kind(volume, settings)
    hu, affine = slices_last(volume, settings)
    name = representation.name_of(volume)
    Stack((hu.shape[0], hu.shape[1], hu.shape[2]), affine, settings, options.resample).check(name, "ct")
    if hu.max() <= -900 or hu.max() > 1e5:
        raise UserError(
            f"{name}: the largest value is {hu.max():.4g}; expected CT in Hounsfield units (air -1000, water 0)"
        )
    return simulate_sinogram(hu, affine, options.views, options.dose, options.noise_seed)


def _assignment(measured: Measured, item: Sinogram, truth: Volume | None, options: CTOptions, model: Model) -> Assignment:
    stack, settings, water = measured.stack, measured.stack.settings, measured.mu_water
    size = stack.arrangement.domain[1:]
    gain, offset = representation.intensity(np.empty(0), settings)
    hu = representation.placed(size, gain, offset, settings)
    air = hu.offset + hu.gain * representation.AIR
    # The same map to attenuation: mu = water (1 + HU / 1000).
    mu = Affine(hu.gain * (water / 1000), water * (1 + hu.offset / 1000), hu.size, hu.before)
    shape = (1, *representation.model_size(size, settings))
    problem = Problem.on_item(
        measured.whitening @ measured.radon @ stack.arrangement,
        measured.whitening(measured.y),
        1.0,
        ProximalCG(iterations=ITERATIONS),
        mu,
        shape,
        settings.valid_range,
        representation.AIR,
    )

    def finish(x: Tensor, randomness: SampleRandomness) -> Volume:
        return stack.volume(stack.arrangement(hu.to_item(x)).maximum(air), truth)

    def baseline(make: Callable[[], Tensor]) -> Callable[[], Volume]:
        return lambda: stack.volume(measured.to_hu(make()), truth)

    start = mu.to_model(stack.parts(measured.tv(iterations=START_ITERATIONS)), shape[1:], representation.AIR)

    def levels(steps: int) -> Sequence[float]:
        first = min(options.start_level or (START if steps > 1 else START_OF_ONE), model.sigma_max)
        return geometric(steps, first, min(STOP, first / 2))

    return Assignment(
        shape=(len(measured.y), *shape),
        finish=finish,
        problem=problem,
        start=Noised(start.clamp(*settings.valid_range)),
        levels=levels,
        truth=truth,
        baselines={"fbp": baseline(measured.fbp), "tv": baseline(measured.tv)},
        measurement=None if truth is None else (lambda folder: save_sinogram(item, folder / "measurement.npz")),
        notes=(*(() if truth is None else (NOTE, *truth.notes)), *item.notes, *measured.notes, *stack.notes),
    )
