"""What is measured already is not simulated: options of a simulation that were given are refused, defaults are not."""

from types import SimpleNamespace

import numpy as np
import pytest

from cmmulti.config.checking import checked
from cmmulti.errors import UserError
from modalities.volume.ct.simulate import simulate_sinogram
from modalities.volume.ct.sinogram import save_sinogram
from modalities.volume.ct.task import CT
from modalities.volume.item import Volume
from modalities.volume.modality import VolumeModality
from modalities.volume.mri.kspace import save_kspace
from modalities.volume.mri.simulate import simulate_kspace
from modalities.volume.mri.task import MRI
from modalities.volume.settings import VolumeSettings

AFFINE = np.diag([2.0, -2, 2, 1])
TASKS = {"mri": MRI(), "ct": CT()}
SIMULATION = [
    ("mri", {"acceleration": 8}),
    ("mri", {"acceleration": 4}),
    ("mri", {"calibration": 0.1}),
    ("mri", {"mask_kind": "equispaced"}),
    ("mri", {"mask_seed": 1}),
    ("mri", {"coils": 4}),
    ("ct", {"views": 64}),
    ("ct", {"noise_seed": 3}),
]


def prepared(task, source, options):
    modality = VolumeModality(VolumeSettings(kind="ct" if task == "ct" else "mr", size=(40, 32), voxel_mm=(2.0, 2.0)))
    kind = TASKS[task]
    chosen = checked(kind.Options, options, f"task {task}")
    return kind.prepare(modality, source, chosen, SimpleNamespace(sigma_max=80.0))


def scan(task):
    y, x = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 32), indexing="ij")
    disc = (y**2 + x**2 < 0.6)[..., None]
    return Volume(np.where(disc, *((0, -1000) if task == "ct" else (300, 0))).astype(np.int16), AFFINE)


@pytest.fixture(params=["file", "item"])
def measured(request, tmp_path):
    """Measured input of a task, by its name."""
    items = {
        "mri": simulate_kspace(scan("mri").values(), AFFINE, np.arange(32) % 2 == 0, 0.01, 0),
        "ct": simulate_sinogram(scan("ct").values(), AFFINE, 12, 1e5, 0),
    }
    if request.param == "item":
        return items
    return {
        "mri": save_kspace(items["mri"], tmp_path / "mri.npz"),
        "ct": save_sinogram(items["ct"], tmp_path / "ct.npz"),
    }


@pytest.mark.parametrize(("task", "options"), SIMULATION)
def test_an_option_of_a_simulation_is_refused_by_name(measured, task, options):
    flag = "--" + next(iter(options)).replace("_", "-")
    with pytest.raises(UserError, match=rf"(input|\.npz): is .*measured.* {flag} .*simulation") as refused:
        prepared(task, measured[task], options)
    assert "\n" not in str(refused.value)


def test_several_are_named_together(measured):
    with pytest.raises(UserError, match="--acceleration, --mask-seed are for a simulation; leave them out"):
        prepared("mri", measured["mri"], {"mask_seed": 0, "acceleration": 4.0, "noise": 0.02})


@pytest.mark.parametrize("task", ["mri", "ct"])
def test_defaults_and_what_measured_input_heeds_are_accepted(measured, task):
    heeded = {"noise": 0.02, "phase": "centre", "calibration": None} if task == "mri" else {"dose": 1e4}
    for options in ({}, {"simulate": False, "resample": True, "start_level": 0.1, **heeded}):
        assert prepared(task, measured[task], options).truth is None


@pytest.mark.parametrize(("task", "options"), SIMULATION)
def test_a_simulation_heeds_them(task, options):
    assert prepared(task, scan(task), {"simulate": True, **options}).truth is not None


@pytest.mark.parametrize("task", ["mri", "ct"])
def test_those_refused_are_those_described_as_of_a_simulation(task):
    fields = TASKS[task].Options.model_fields
    described = {name for name, info in fields.items() if (info.description or "").startswith("simulation:")}
    assert described == {name for kind, options in SIMULATION if kind == task for name in options}
