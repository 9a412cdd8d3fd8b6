"""Task ``ct``: slices from sparse parallel-beam views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Item, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.operators.affine import Affine
from cmmulti.problems.base import Noised, Problem
from cmmulti.problems.proximal_cg import ProximalCG
from cmmulti.randomness import SampleRandomness
from modalities.volume import representation
from modalities.volume.ct.measured import MeasuredCT
from modalities.volume.ct.simulate import simulate_sinogram
from modalities.volume.ct.sinogram import PHOTONS, Sinogram, load_sinogram, save_sinogram
from modalities.volume.item import Volume
from modalities.volume.levels import Start
from modalities.volume.measurements import Measurements, input_name
from modalities.volume.resampling import AIR_HU
from modalities.volume.settings import VolumeSettings
from modalities.volume.stacks import Stack, slices_last

INPUT = Measurements(
    Sinogram,
    {".npz": load_sinogram},
    name="a measured sinogram",
    scan="a CT scan",
    simulation=("views", "noise_seed"),
)

NOTE = "simulated from a reconstructed scan with a parallel beam, optimistic"

ITERATIONS = 10
"""Of conjugate gradient at each step; projections are cheap beside the network."""

START = Start(several=0.1, alone=0.05, last=0.01)
"""Chosen on six validation slices, 32 and 64 views: four steps from 0.1 are 0.3 and 0.1 dB nearer than from 0.05, one step
0.1 dB nearer and 0.3 dB farther."""

START_ITERATIONS = 60
"""Of total variation, for the image to start from."""


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
    start_level: float | None = Field(None, gt=0, description=START.words)
    resample: bool = Field(False, description="let the model work on its own pixel size where the input's differs too much")


class CT(Task):
    """Parallel-beam CT from few views: proximal CG on the attenuation, photon noise weighted."""

    name: ClassVar[str] = "ct"
    verb: ClassVar[Literal["edit", "reconstruct"]] = "reconstruct"
    summary: ClassVar[str] = "CT slices from sparse parallel-beam views (.npz), or simulated from a CT scan; result in HU"
    Options: ClassVar[type[TaskOptions]] = CTOptions

    def prepare(self, modality: Any, source: Path | Item, options: Any, model: Model) -> Assignment:
        settings: VolumeSettings = modality.settings
        name = input_name(source)
        if settings.kind == "ct" and settings.window[0] > AIR_HU:
            raise UserError(
                f"{name}: the model's window begins at {settings.window[0]:g} HU and has no number for the air that beams "
                f"cross; expected a model whose window begins at {AIR_HU:g} HU or below"
            )
        item, truth = INPUT.of(source, options, modality.load, lambda scan: simulated(scan, settings, options))
        return _assignment(MeasuredCT.of(item, settings, options.dose, name, options.resample), item, truth, options, model)


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


def _assignment(measured: MeasuredCT, item: Sinogram, truth: Volume | None, options: CTOptions, model: Model) -> Assignment:
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
        return stack.volume((stack.arrangement(hu.to_item(x)) + detail).maximum(air), truth)

    def baseline(make: Callable[[], Tensor]) -> Callable[[], Volume]:
        return lambda: stack.volume(measured.to_hu(make()), truth)

    found = measured.tv(iterations=START_ITERATIONS)
    detail = stack.detail(found) * (1000 / water)
    start = mu.to_model(stack.parts(found), shape[1:], representation.AIR)
    return Assignment(
        shape=(len(measured.y), *shape),
        finish=finish,
        problem=problem,
        start=Noised(start.clamp(*settings.valid_range)),
        levels=START.levels(options.start_level, model.sigma_max),
        truth=truth,
        baselines={"fbp": baseline(measured.fbp), "tv": baseline(measured.tv)},
        measurement=None if truth is None else (lambda folder: save_sinogram(item, folder / "measurement.npz")),
        notes=(*(() if truth is None else (NOTE, *truth.notes)), *item.notes, *measured.notes, *stack.notes),
    )
