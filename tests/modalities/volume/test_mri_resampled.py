"""The task mri on voxels that are not the model's."""

import numpy as np
import pytest
from mri_toys import AFFINE, head, prepared, relative, solve

from cmmulti.errors import UserError
from modalities.volume.item import Volume
from modalities.volume.modality import VolumeModality
from modalities.volume.settings import VolumeSettings


def smooth(shape, mm, affine_like=AFFINE):
    """A head-like scan without detail below a few mm, on any pixel size, centred in the same place."""
    affine = affine_like.copy()
    affine[:3, :2] *= np.array(mm) / 2
    y, x = ((np.arange(n) - (n - 1) / 2) * v for n, v in zip(shape[:2], mm, strict=True))
    outer = 1 / (1 + np.exp((np.hypot(y[:, None] / 1.2, x) - 24) / 3))
    inner = np.exp(-((y[:, None] - 6) ** 2 + (x + 8) ** 2) / 60)
    return Volume(np.repeat((300 * outer + 200 * inner)[..., None], shape[2], 2).astype(np.float32), affine)


OFF = [((73, 79, 2), (1.0, 1.1)), ((25, 29, 3), (3.0, 2.9)), ((73, 29, 2), (1.0, 2.9))]


@pytest.mark.parametrize(("shape", "mm"), OFF)
def test_another_pixel_size_is_refused_and_taken_with_resample(modality, model, shape, mm):
    truth = smooth(shape, mm)
    with pytest.raises(UserError, match=rf"voxels of {mm[0]:g} x {mm[1]:g}|voxels of {mm[1]:g} x {mm[0]:g}") as error:
        prepared(modality, model, truth, simulate=True)
    assert "at 2 x 2 mm and takes at most 15 %" in str(error.value)
    assert "--resample" in str(error.value)
    assignment = prepared(modality, model, truth, simulate=True, resample=True, acceleration=1, noise=0)
    assert any("2 x 2 mm" in note for note in assignment.notes)
    result = solve(assignment, model, steps=4)
    assert result.shape == truth.shape
    assert np.array_equal(result.affine, truth.affine)
    assert result.data.min() >= 0
    assert relative(result, truth) < 0.03
    for name, make in assignment.baselines.items():
        assert relative(make(), truth) < 0.03, name


def test_detail_that_the_models_pixels_cannot_hold_is_that_of_total_variation(modality, model):
    truth = smooth((73, 79, 2), (1.0, 1.1))
    stripes = (-1.0) ** np.arange(73)[:, None, None] * (truth.values() > 200)
    fine = truth.with_values(truth.values() + 30 * stripes)
    assignment = prepared(modality, model, fine, simulate=True, resample=True, acceleration=1, noise=0)
    result = solve(assignment, model, steps=4)
    assert relative(result, fine) < 0.5 * relative(truth, fine)


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 0, 1)])
def test_a_resampled_scan_in_any_stored_order_comes_back_in_place(modality, model, axes):
    truth = smooth((73, 29, 2), (1.0, 2.9))
    affine = np.eye(4)
    affine[:, :3] = truth.affine[:, axes] * np.array([-1, 1, 1])
    stored = Volume(np.ascontiguousarray(truth.data.transpose(axes)[::-1]), affine)
    options = {"simulate": True, "resample": True, "acceleration": 1, "noise": 0}
    assert relative(solve(prepared(modality, model, stored, **options), model, steps=4), stored) < 0.03


def test_a_saved_simulation_on_other_pixels_gives_the_same_result(modality, model, tmp_path):
    truth = smooth((73, 29, 2), (1.0, 2.9))
    simulated = prepared(modality, model, truth, simulate=True, resample=True)
    path = simulated.measurement(tmp_path)
    with pytest.raises(UserError, match=r"measurement\.npz: voxels of 2.9 x 1 mm"):
        prepared(modality, model, path)
    measured = prepared(modality, model, path, resample=True)
    assert np.array_equal(solve(simulated, model).data, solve(measured, model).data)
    # Baselines know nothing of the model, so nothing of its pixels.
    own = VolumeModality(VolumeSettings(size=(29, 73), voxel_mm=(2.9, 1.0)))
    for name, make in prepared(own, model, path).baselines.items():
        assert np.array_equal(make().data, measured.baselines[name]().data)


def test_resample_changes_nothing_within_the_tolerance(modality, model):
    truth = head()
    a, b = (prepared(modality, model, truth, simulate=True, resample=resample) for resample in (False, True))
    assert a.notes == b.notes
    assert np.array_equal(solve(a, model).data, solve(b, model).data)
