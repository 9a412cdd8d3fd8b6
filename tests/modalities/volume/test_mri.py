"""The task mri from a magnitude volume or measured k-space to a volume."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mri_toys import AFFINE, head, prepared, relative, simulated_kspace, solve

from modalities.volume.item import Volume
from modalities.volume.modality import VolumeModality
from modalities.volume.mri import estimates
from modalities.volume.mri.measured import MeasuredMRI
from modalities.volume.mri.simulate import NOTE, smooth_phase
from modalities.volume.mri.task import MRI, MRIOptions
from modalities.volume.settings import VolumeSettings


@pytest.mark.parametrize("kind", ["random", "equispaced"])
def test_a_saved_simulation_gives_the_same_result_as_the_simulation(modality, model, tmp_path, kind):
    truth = head()
    simulated = prepared(modality, model, truth, simulate=True, mask_kind=kind, noise=0.02)
    assert NOTE in simulated.notes
    assert simulated.truth is truth
    path = simulated.measurement(tmp_path)
    assert path == tmp_path / "measurement.npz"
    measured = prepared(modality, model, path, noise=0.02)
    assert measured.truth is None
    assert measured.measurement is None
    assert NOTE not in measured.notes
    ours, theirs = solve(simulated, model), solve(measured, model)
    assert np.array_equal(ours.data, theirs.data)
    assert np.array_equal(ours.affine, theirs.affine)
    for name, make in simulated.baselines.items():
        assert np.array_equal(make().data, measured.baselines[name]().data)


def test_result_has_the_geometry_of_the_input(modality, model):
    truth = head()
    result = solve(prepared(modality, model, truth, simulate=True), model)
    assert result.shape == truth.shape
    assert np.array_equal(result.affine, truth.affine)
    assert result.data.dtype == np.float32
    assert result.data.min() >= 0


@pytest.mark.parametrize("phase", ["tracked", "fixed", "centre"])
def test_full_sampling_without_noise_gives_the_input_back(modality, model, phase):
    truth = head()
    result = solve(prepared(modality, model, truth, simulate=True, acceleration=1, noise=0, phase=phase), model)
    assert relative(result, truth) < 0.05


@pytest.mark.parametrize("orientation", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_every_stored_order_comes_back_in_place(model, modality, orientation, flips):
    truth = head()
    data = truth.data.transpose(orientation)
    affine = np.eye(4)
    affine[:, :3] = AFFINE[:, orientation] * np.array(flips)
    stored = Volume(np.ascontiguousarray(data[tuple(slice(None, None, f) for f in flips)]), affine)
    assignment = prepared(modality, model, stored, simulate=True, acceleration=1, noise=0)
    assert relative(solve(assignment, model, steps=4), stored) < 0.05
    assert relative(assignment.baselines["zero-filled"](), stored) < 0.01


def test_odd_sizes_and_larger_than_the_model(modality, model):
    truth = head((45, 47, 2))
    assert relative(solve(prepared(modality, model, truth, simulate=True, acceleration=1, noise=0), model), truth) < 0.05


@pytest.mark.parametrize("gain", [1e-12, 1e-5, 1e11])
def test_gain_of_the_scanner_changes_nothing_but_the_unit(modality, model, gain):
    truth = head()
    simulated = prepared(modality, model, truth, simulate=True)
    louder = prepared(modality, model, truth.with_values(gain * truth.values()), simulate=True)
    assert louder.problem.noise == pytest.approx(gain * simulated.problem.noise, rel=1e-4)
    a, b = solve(simulated, model).values(), solve(louder, model).values()
    assert np.abs(a - b / gain).max() < 1e-3 * a.max()


def test_nothing_is_taken_from_the_truth(modality, model):
    # The same measurement beside another truth: the problem must be the same.
    truth = head()
    assignment = prepared(modality, model, truth, simulate=True)
    other = replace(assignment, truth=truth.with_values(truth.values() * 0))
    assert np.array_equal(solve(assignment, model).data, solve(other, model).data)


def test_noise_is_estimated_where_it_is_not_given(modality, model):
    item = simulated_kspace(noise=0.02)
    reference = np.percentile(head().values(), 99)
    assert estimates.estimated_noise(item) == pytest.approx(0.02 * reference, rel=0.1)
    assert estimates.reference_level(item) == pytest.approx(reference, rel=0.12)
    assert MRI().prepare(modality, item, MRIOptions(), model).problem.noise == pytest.approx(0.02 * reference, rel=0.1)
    assert MRI().prepare(modality, item, MRIOptions(noise=0), model).problem.noise == 0


def test_zeros_that_fill_up_k_space_say_nothing_of_its_noise():
    item = simulated_kspace(noise=0.02, shape=(64, 40, 2))
    std = 0.02 * np.percentile(head((64, 40, 2)).values(), 99)
    lines, columns = np.abs(np.ogrid[-32:32, -20:20][0]), np.abs(np.ogrid[-32:32, -20:20][1])
    for kept in (lines < 20, np.arange(64)[:, None] >= 12, (lines / 32) ** 2 + (columns / 20) ** 2 < 1):
        filled = replace(item, kspace=np.where(kept, item.kspace, 0))
        assert 0.7 * std < estimates.estimated_noise(filled) < 1.1 * std
    blank = replace(item, kspace=np.concatenate([item.kspace, 0 * item.kspace]))
    assert estimates.estimated_noise(blank) == pytest.approx(std, rel=0.1)


def test_total_variation_follows_the_noise(modality, model):
    truth = head()
    item = simulated_kspace(noise=0.1)
    told, deceived = (prepared(modality, model, item, noise=noise).baselines for noise in (0.1, 0.01))
    for name in ("tv", "tv-complex"):
        assert relative(told[name](), truth) < 0.95 * relative(deceived[name](), truth)


def test_scale_comes_within_ten_per_cent():
    values = head().values()
    want = np.percentile(values[values > 0], 99.5)
    assert estimates.estimated_percentile(simulated_kspace(1)) == pytest.approx(want, rel=0.1)
    assert estimates.estimated_percentile(simulated_kspace(4)) == pytest.approx(want, rel=0.2)


@pytest.mark.parametrize("percentile", [70.0, 99.5])
def test_the_models_own_percentile_is_its_scale(model, percentile):
    """Of ``head``, a fifth of the tissue is brighter than the rest: the 70th percentile is 3/5 of the largest value."""
    modality = VolumeModality(VolumeSettings(size=(44, 40), voxel_mm=(2.0, 2.0), percentile=percentile))
    truth = head()
    start = prepared(modality, model, truth, simulate=True, acceleration=1, noise=0).start.clean
    assert float((start - modality.encode(truth)).abs().mean()) < 0.05


def test_centre_phase_follows_the_true_one():
    item = simulated_kspace(2)
    true = torch.from_numpy(smooth_phase((2, 36, 40), 0)).float()
    settings = VolumeSettings(size=(44, 40), voxel_mm=(2.0, 2.0))
    measured = MeasuredMRI.of(item, settings, None, "toy", phase="centre")
    found = torch.empty(2, 36, 40).index_copy_(0, measured.stack.slices, measured.phase[:, 0])
    error = torch.polar(torch.ones(2, 36, 40), found - true).angle()
    weight = torch.from_numpy(np.moveaxis(head().values(), 2, 0))
    assert float((error.square() * weight).sum() / weight.sum()) ** 0.5 < 0.15


def test_simulated_phase_is_smooth_and_seeded():
    phase = smooth_phase((8, 90, 120), 3)
    assert np.abs(np.diff(phase, axis=1)).max() < 0.2
    assert np.array_equal(phase, smooth_phase((8, 90, 120), 3))
    assert not np.allclose(phase, smooth_phase((8, 90, 120), 4))


def test_levels_decrease_from_the_start_level(modality, model):
    assignment = prepared(modality, model, head(), simulate=True, start_level=0.3)
    assert assignment.levels(1) == [0.3]
    levels = assignment.levels(4)
    assert levels[0] == 0.3
    plain = prepared(modality, model, head(), simulate=True)
    assert (plain.levels(1)[0], plain.levels(4)[0]) == (0.04, 0.15)
    assert all(a > b > 0 for a, b in zip(levels, levels[1:], strict=False))
