"""Task ``mri``: a head from a part of its Cartesian k-space, of one coil or several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from cmmulti.modality import Assignment, Item, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.problems.base import Noised
from cmmulti.problems.phase_tracking import PhaseTracking
from cmmulti.randomness import SampleRandomness
from modalities.volume import representation
from modalities.volume.item import Volume
from modalities.volume.levels import Start
from modalities.volume.measurements import Measurements, input_name
from modalities.volume.mri import fastmri
from modalities.volume.mri.kspace import KSpace, check_size, load_kspace, save_kspace
from modalities.volume.mri.masks import MaskKind, cartesian_mask, default_calibration
from modalities.volume.mri.measured import MeasuredMRI
from modalities.volume.mri.orientation import oriented
from modalities.volume.mri.simulate import NOTE, simulate_kspace
from modalities.volume.settings import VolumeSettings
from modalities.volume.stacks import Stack, slices_last

INPUT = Measurements(
    KSpace,
    {".npz": load_kspace, **dict.fromkeys(fastmri.SUFFIXES, fastmri.load_fastmri)},
    name="measured k-space",
    scan="a magnitude volume",
    simulation=("coils", "acceleration", "calibration", "mask_kind", "mask_seed"),
)

SIMULATED_NOISE = 0.01
"""``--noise`` of a simulation that does not say."""

START_ITERATIONS = 50
"""Of total variation, for the image to start from."""

START = Start(several=0.15, alone=0.04, last=0.02)
"""Chosen on three validation heads with a denoiser: four steps from 0.15 come 0.20 (4x) and 0.04 dB (8x) nearer than from
0.04, about the error of the image that they start from. One step has nothing after it to take that much noise away."""


class MRIOptions(TaskOptions):
    """Options of :class:`MRI`."""

    simulate: bool = Field(False, description="measure a magnitude volume first (optimistic)")
    coils: int = Field(1, ge=1, le=64, description="simulation: coils on a ring around the head")
    acceleration: float = Field(4.0, ge=1, description="simulation: one in so many k-space lines is measured")
    calibration: float | None = Field(
        None, gt=0, le=1, description="simulation: share of lines measured around the centre (0.08 up to 4x, else 0.04)"
    )
    mask_kind: MaskKind = Field("random", description="simulation: which lines outside the centre")
    mask_seed: int = Field(0, ge=0, lt=2**32, description="simulation: seed of mask, phase and noise")
    noise: float | None = Field(
        None,
        ge=0,
        le=10,
        description="noise in k-space, per real component, relative to the image's 99th percentile (simulation: 0.01; "
        "measured: estimated)",
    )
    phase: Literal["tracked", "fixed", "centre"] = Field(
        "tracked",
        description="tracked: estimated again at each step; fixed: once, with total variation; centre: once, from the "
        "centre lines alone",
    )
    orientation: str | None = Field(
        None,
        description="measured without an affine: where rows, columns and slices count to, such as PLS (else RAS)",
    )
    start_level: float | None = Field(None, gt=0, description=START.words)
    resample: bool = Field(False, description="let the model work on its own pixel size where the input's differs too much")


class MRI(Task):
    """Cartesian MRI: real magnitudes times a phase, seen by coils; proximal CG with the measured lines."""

    name: ClassVar[str] = "mri"
    verb: ClassVar[Literal["edit", "reconstruct"]] = "reconstruct"
    summary: ClassVar[str] = (
        "an MR scan from undersampled Cartesian k-space (.npz, fastMRI's .h5), or simulated from a magnitude scan"
    )
    Options: ClassVar[type[TaskOptions]] = MRIOptions

    def prepare(self, modality: Any, source: Path | Item, options: Any, model: Model) -> Assignment:
        settings: VolumeSettings = modality.settings
        item, truth = INPUT.of(source, options, modality.load, lambda scan: simulated(scan, settings, options))
        name = input_name(source)
        if options.orientation is not None:
            item = oriented(item, options.orientation, name)
        measured = MeasuredMRI.of(item, settings, options.noise, name, options.phase, options.resample)
        return _assignment(measured, item, truth, options, model)


def simulated(volume: Volume, settings: VolumeSettings, options: MRIOptions) -> KSpace:
    """The k-space that the options ask to be measured of a magnitude scan."""
    name = representation.name_of(volume)
    representation.check_kind(volume, settings)
    representation.intensity(volume.values(), settings, name)
    values, affine = slices_last(volume, settings)
    rows, columns, slices = values.shape
    Stack((rows, columns, slices), affine, settings, options.resample).check(name, "mr")
    calibration = default_calibration(options.acceleration) if options.calibration is None else options.calibration
    mask = cartesian_mask(options.mask_kind, columns, options.acceleration, calibration, options.mask_seed)
    noise = SIMULATED_NOISE if options.noise is None else options.noise
    item = simulate_kspace(values.clip(min=0), affine, mask, noise, options.mask_seed, options.coils)
    check_size(item.kspace, name)
    return item


def _assignment(measured: MeasuredMRI, item: KSpace, truth: Volume | None, options: MRIOptions, model: Model) -> Assignment:
    stack, settings, sampled = measured.stack, measured.stack.settings, measured.sampled
    size = stack.arrangement.domain[1:]
    affine = representation.placed(size, measured.scale / 2, measured.scale / 2, settings)
    shape = (1, *representation.model_size(size, settings))
    solver = PhaseTracking(
        acquisition=sampled.acquisition(),
        arrangement=stack.arrangement,
        measured=sampled.y,
        phase=measured.phase,
        window=measured.window if options.phase == "tracked" else None,
        affine=affine,
        model_shape=shape,
    )

    def finish(x: Tensor, randomness: SampleRandomness) -> Volume:
        return stack.volume((stack.arrangement(affine.to_item(x)) + detail).clamp_min(0), truth)

    def baseline(make: Callable[[], Tensor]) -> Callable[[], Volume]:
        return lambda: stack.volume(make(), truth)

    found = sampled.tv(measured.phase, iterations=START_ITERATIONS)
    detail = stack.detail(found)
    start = affine.to_model(stack.parts(found), shape[1:], representation.AIR)
    return Assignment(
        shape=(len(sampled.y), *shape),
        finish=finish,
        problem=solver.problem(sampled.noise, settings.valid_range, representation.AIR),
        start=Noised(start.clamp(*settings.valid_range)),
        levels=START.levels(options.start_level, model.sigma_max),
        truth=truth,
        baselines={
            "zero-filled": baseline(sampled.zero_filled),
            "tv": baseline(lambda: measured.tv(complex_image=False)),
            "tv-complex": baseline(lambda: measured.tv(complex_image=True)),
        },
        measurement=None if truth is None else (lambda folder: save_kspace(item, folder / "measurement.npz")),
        notes=(*(() if truth is None else (NOTE, *truth.notes)), measured.note(item), *item.notes, *stack.notes),
    )
