"""What the task mri wants of its input and options, and what it does without."""

from dataclasses import replace

import numpy as np
import pytest
from mri_toys import AFFINE, head, prepared, simulated_kspace
from pydantic import ValidationError

from cmmulti.errors import UserError
from modalities.volume.modality import VolumeModality
from modalities.volume.mri.kspace import KSpace
from modalities.volume.mri.task import MRIOptions
from modalities.volume.settings import VolumeSettings


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (head(), {}, "--simulate"),
        (simulated_kspace(), {"simulate": True}, "leave out --simulate"),
        (head(affine=np.diag([1.0, 1, 1, 1])), {"simulate": True}, "voxels of 1 x 1 mm"),
        (head((36, 80, 5)), {"simulate": True}, "field of view"),
        (head((10, 12, 5)), {"simulate": True}, "field of view"),
        (head(), {"simulate": True, "calibration": 0.5}, "leaves 10 of 40 lines"),
        (replace(head(), kind="ct"), {"simulate": True}, "CT"),
        (head().with_values(1e20 * head().values()), {"simulate": True}, "another unit"),
    ],
)
def test_what_cannot_be_done_is_refused(modality, model, source, options, words):
    with pytest.raises(UserError, match=words):
        prepared(modality, model, source, **options)


def test_slices_of_another_plane_are_refused(modality, model):
    item = simulated_kspace()
    affine = AFFINE[:, [2, 1, 0, 3]]
    with pytest.raises(UserError, match="axial"):
        prepared(modality, model, KSpace(item.kspace, item.mask, affine))


@pytest.mark.parametrize("noise", [-1, float("nan"), float("inf"), 11])
def test_noise_that_is_none_is_refused(noise):
    with pytest.raises(ValidationError, match="noise"):
        MRIOptions(noise=noise)


@pytest.mark.parametrize(
    ("stated", "mm", "plane", "words"),
    [
        ("nothing", 1.0, "axial", "2 x 2 mm .* it states no voxel size, and 1 mm was assumed: give it affine or voxel_mm"),
        ("voxel_mm", 1.0, "axial", "2 x 2 mm .*--resample"),
        ("voxel_mm", 2.0, "coronal", "it has no affine, and slices without one are taken as axial"),
        ("affine", 2.0, "coronal", "its affine says that the slices are not coronal"),
    ],
)
def test_what_a_file_does_not_state_is_not_held_against_it(model, stated, mm, plane, words):
    item = replace(simulated_kspace(), affine=np.diag([mm, mm, 2, 1]), stated=stated)
    coronal = VolumeModality(VolumeSettings(size=(44, 40), voxel_mm=(2.0, 2.0), plane=plane))
    with pytest.raises(UserError, match=words):
        prepared(coronal, model, item)


def test_a_measurement_without_a_place_may_be_compared_with_any_reference(modality, model):
    item = replace(simulated_kspace(), affine=np.diag([2.0, 2, 2, 1]), stated="voxel_mm")
    result = prepared(modality, model, item).baselines["zero-filled"]()
    assert not result.placed
    assert modality.metrics(result, head())["nmse"] < 1


def test_a_measurement_without_a_place_is_told(modality, model):
    item = replace(simulated_kspace(), notes=("no affine",))
    assert "no affine" in prepared(modality, model, item).notes


def test_models_of_ct_or_of_volumes_are_refused(model):
    for settings in (VolumeSettings(kind="ct"), VolumeSettings(dims=3, size=(8, 40, 44), voxel_mm=(2.0, 2.0, 2.0))):
        with pytest.raises(UserError, match="needs a 2D MR model"):
            prepared(VolumeModality(settings), model, simulated_kspace())
