"""The task mri from a magnitude volume or measured k-space to a volume."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.parameterization import EDM
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from modalities.volume import estimates
from modalities.volume.item import Volume
from modalities.volume.kspace import KSpace
from modalities.volume.masks import cartesian_mask
from modalities.volume.modality import VolumeModality
from modalities.volume.mri import MRI, MRIOptions
from modalities.volume.settings import VolumeSettings
from modalities.volume.simulate import NOTE, simulate_kspace, smooth_phase

AFFINE = np.array([[2.0, 0, 0, -30], [0, 2, 0, -40], [0, 0, 2, 5], [0, 0, 0, 1]])


class _Silent(nn.Module):
    """A network that says nothing: the estimate is ``c_skip x``, a Gaussian prior of mean 0 and no structure."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, time, condition, time_next=None):
        return torch.zeros_like(x)


@pytest.fixture(scope="module")
def model():
    return Model(_Silent(), EDM(0.5))


@pytest.fixture(scope="module")
def modality():
    return VolumeModality(VolumeSettings(size=(44, 40), voxel_mm=(2.0, 2.0)))


def head(shape=(36, 40, 2), affine=AFFINE):
    """An ellipsoid with a brighter one inside, air around it, in scanner units."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    x, y, z = axes
    outer = (x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 2) ** 2 < 1
    inner = ((x - 0.1) / 0.3) ** 2 + ((y + 0.2) / 0.4) ** 2 < 1
    return Volume((300 * outer + 200 * inner * outer).astype(np.float32), affine)


def solve(assignment, model, steps=2, seed=0):
    parts = assignment.shape[0]
    randomness = SampleRandomness([(seed, part) for part in range(parts)])
    samples = Multistep().sample(model, assignment.shape, assignment.levels(steps), randomness, problem=assignment.problem)
    return assignment.finish(samples.x, randomness.child("finish"))


def prepared(modality, model, source, **options):
    return MRI().prepare(modality, source, MRIOptions(**options), model)


def relative(result, truth):
    return np.linalg.norm(result.values() - truth.values()) / np.linalg.norm(truth.values())


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


def simulated_kspace(acceleration=4, noise=0.0, shape=(36, 40, 2), seed=0):
    mask = cartesian_mask("random", shape[1], acceleration, 0.2, seed)
    return simulate_kspace(head(shape).values(), AFFINE, mask, noise, seed)


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
    error = torch.polar(torch.ones(2, 36, 40), estimates.centre_phase(item)[:, 0] - true).angle()
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


def test_resampling_holds_the_models_band_and_no_more(modality, model):
    """Full sampling without noise gives the closest that the model's pixels can come, and leaves finer detail out."""
    truth = smooth((73, 79, 2), (1.0, 1.1))
    stripes = (-1.0) ** np.arange(73)[:, None, None] * (truth.values() > 200)
    fine = truth.with_values(truth.values() + 30 * stripes)
    result = solve(prepared(modality, model, fine, simulate=True, resample=True, acceleration=1, noise=0), model, steps=4)
    assert relative(result, truth) < 0.03 < relative(result, fine)


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
