"""The task ct from a CT scan or a measured sinogram to a volume in HU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.operators.radon import Radon
from cmmulti.parameterization import EDM
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from modalities.volume.ct.measured import estimated_photons
from modalities.volume.ct.simulate import line_integrals, simulate_sinogram
from modalities.volume.ct.sinogram import PHOTONS, load_sinogram, save_sinogram
from modalities.volume.ct.task import CT, NOTE, CTOptions
from modalities.volume.item import Volume
from modalities.volume.metrics import MU_WATER, attenuation
from modalities.volume.modality import VolumeModality
from modalities.volume.settings import VolumeSettings

AFFINE = np.array([[-2.0, 0, 0, 30], [0, -2, 0, 40], [0, 0, 5, 7], [0, 0, 0, 1]])


class _Silent(nn.Module):
    """The estimate is ``c_skip x``: at low noise levels nearly the noisy tensor itself."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, time, condition, time_next=None):
        return torch.zeros_like(x)


@pytest.fixture(scope="module")
def model():
    return Model(_Silent(), EDM(2.0))


@pytest.fixture(scope="module")
def modality():
    return VolumeModality(VolumeSettings(kind="ct", size=(40, 48), voxel_mm=(2.0, 2.0)))


def body(shape=(36, 32, 2), affine=AFFINE):
    """A water ellipse with a bone in it, padding of -3024 HU outside the circle."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    hu = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 + 0 * z < 1, 0, -1000)
    hu = np.where(((x - 0.3) / 0.2) ** 2 + ((y + 0.1) / 0.2) ** 2 + 0 * z < 1, 700, hu)
    return Volume(np.where(x**2 + y**2 + 0 * z > 1.9, -3024, hu).astype(np.int16), affine)


def prepared(modality, model, source, **options):
    return CT().prepare(modality, source, CTOptions(**options), model)


def solve(assignment, model, steps=2):
    randomness = SampleRandomness([(0, part) for part in range(assignment.shape[0])])
    levels = assignment.levels(steps)
    samples = Multistep().sample(model, assignment.start, levels, randomness, problem=assignment.problem)
    return assignment.finish(samples.x, randomness.child("finish"))


@pytest.mark.parametrize("dose", [None, 2e4])
def test_a_saved_simulation_gives_the_same_result_as_the_simulation(modality, model, tmp_path, dose):
    truth = body()
    simulated = prepared(modality, model, truth, simulate=True, views=12, dose=dose)
    assert NOTE in simulated.notes
    path = simulated.measurement(tmp_path)
    measured = prepared(modality, model, path)
    assert measured.truth is None
    ours, theirs = solve(simulated, model), solve(measured, model)
    assert np.array_equal(ours.data, theirs.data)
    assert np.array_equal(ours.affine, truth.affine)
    assert np.array_equal(theirs.affine, truth.affine)
    assert np.array_equal(simulated.baselines["fbp"]().data, measured.baselines["fbp"]().data)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flip", [1, -1])
def test_many_views_give_back_hounsfield_units_in_place(modality, model, axes, flip):
    truth = body()
    affine = np.eye(4)
    affine[:, :3] = AFFINE[:, axes] * np.array([flip, 1, 1])
    stored = Volume(np.ascontiguousarray(truth.data.transpose(axes)[::flip]), affine)
    assignment = prepared(modality, model, stored, simulate=True, views=120)
    hu = np.maximum(stored.values(), -1000)
    water = hu == 0
    for result in (solve(assignment, model, 3), assignment.baselines["fbp"]()):
        assert result.shape == stored.shape
        assert np.abs(result.values() - hu).mean() < 60
        assert abs(np.median(result.values()[water])) < 15


def test_total_variation_beats_back_projection_on_few_views(modality, model):
    truth = body()
    assignment = prepared(modality, model, truth, simulate=True, views=12)
    assert assignment.truth is truth
    psnr = {name: modality.metrics(make(), truth)["psnr"] for name, make in assignment.baselines.items()}
    assert psnr["tv"] > psnr["fbp"] + 2


def test_simulation_and_solver_use_different_projectors_that_agree(modality):
    truth = body()
    item = simulate_sinogram(truth.values(), AFFINE, 30, None, 0)
    angles = torch.deg2rad(torch.from_numpy(item.angles_deg))
    radon = Radon((1, 36, 32), angles, 2.0, item.sinogram.shape[2], item.bin_mm)
    mu = torch.from_numpy(np.moveaxis(attenuation(truth.values()), 2, 0).copy())[:, None]
    difference = radon(mu)[:, 0].numpy() - item.sinogram
    assert 1e-4 < np.sqrt(np.mean(difference**2)) < 0.02
    assert item.sinogram.max() > 60 * MU_WATER


def test_photon_noise_has_the_right_size():
    air = np.full((16, 16, 40), -1000.0)
    photons = 5e3
    item = simulate_sinogram(air, AFFINE, 8, photons, 0)
    assert item.sinogram.std() == pytest.approx(photons**-0.5, rel=0.05)
    assert estimated_photons(torch.from_numpy(item.sinogram)[:, None]) == pytest.approx(photons, rel=0.1)
    quiet = simulate_sinogram(air, AFFINE, 8, None, 0)
    assert quiet.photons == PHOTONS[1]
    assert estimated_photons(torch.from_numpy(quiet.sinogram)[:, None]) is None


def test_bins_that_were_filled_up_with_zeros_say_nothing_of_the_noise(modality, model):
    photons = 5e3
    item = replace(simulate_sinogram(body(shape=(36, 32, 8)).values(), AFFINE, 24, photons, 0), photons=None)
    (note,) = prepared(modality, model, item).notes
    assert "does not state its photons" in note
    measured = torch.from_numpy(item.sinogram)[:, None]
    wide = torch.nn.functional.pad(measured, (60, 60))
    assert estimated_photons(wide) == pytest.approx(photons, rel=0.15)
    assert estimated_photons(torch.zeros(2, 1, 8, 40)) is None
    blank = replace(item, sinogram=np.zeros_like(item.sinogram))
    assert any("no noise was seen" in note for note in prepared(modality, model, blank).notes)


def test_an_answer_that_is_told_its_dose_is_better_than_one_told_of_no_noise(modality, model):
    truth, dose = body(), 200
    item = replace(simulate_sinogram(truth.values(), AFFINE, 24, dose, 0), photons=None)
    told, deceived = (prepared(modality, model, item, dose=d) for d in (dose, 1e9))
    for right, wrong in (
        (solve(told, model), solve(deceived, model)),
        (told.baselines["tv"](), deceived.baselines["tv"]()),
    ):
        assert modality.metrics(right, truth)["psnr"] > modality.metrics(wrong, truth)["psnr"]


def test_a_given_dose_weights_the_measurements(modality, model):
    item = simulate_sinogram(body().values(), AFFINE, 12, None, 0)
    trusted = prepared(modality, model, item).problem.y.abs().max()
    doubted = prepared(modality, model, item, dose=100).problem.y.abs().max()
    assert doubted < 0.1 * trusted


def test_detector_and_grid_are_taken_from_the_file(tmp_path, modality, model):
    item = simulate_sinogram(body().values(), AFFINE, 9, 1e5, 0)
    back = load_sinogram(save_sinogram(item, tmp_path / "s.npz"))
    assert back.size == (36, 32)
    assert (back.bin_mm, back.photons, back.mu_water) == (item.bin_mm, 1e5, MU_WATER)
    assert np.array_equal(back.sinogram, item.sinogram)
    assert item.sinogram.shape[2] * item.bin_mm > 2 * np.hypot(36, 32)
    np.savez(tmp_path / "bare.npz", sinogram=item.sinogram, angles_deg=item.angles_deg, bin_mm=2.0, voxel_mm=[2, 2, 5])
    bare = prepared(modality, model, tmp_path / "bare.npz")
    assert bare.finish(torch.zeros(bare.shape), None).shape == (48, 40, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"angles_deg": np.arange(5.0)}, r"expected \(6,\)"),
        ({"sinogram": np.zeros((6, 20), np.float32)}, "slices, views, bins"),
        ({"sinogram": np.full((1, 6, 20), np.nan)}, "NaN"),
        ({"sinogram": np.full((1, 6, 20), 4e4)}, "line integrals"),
        ({"sinogram": np.zeros((1, 6, 20), complex)}, "expected real numbers"),
        ({"bin_mm": -1.0}, "bin_mm"),
        ({"bin_mm": [1.0, 2.0]}, "bin_mm"),
        ({"bin_mm": 1e6}, "from 0.001 to 1000 mm"),
        ({"mu_water": 19.4}, "from 0.005 to 0.1 per mm"),
        ({"angles_deg": np.arange(6.0) * 1e9}, "degrees"),
        ({"angles_deg": np.arange(6.0) * np.pi / 6}, r"angles_deg span 2\.62 degrees; .*not radians"),
        ({"photons": 0.0}, "photons"),
        ({"size": [10**6, 10**6]}, "size"),
        ({"affine": np.eye(3)}, "affine"),
    ],
)
def test_measurements_that_do_not_fit(tmp_path, change, words):
    good = {"sinogram": np.zeros((1, 6, 20), np.float32), "angles_deg": 30 * np.arange(6.0), "bin_mm": 1.0}
    np.savez(tmp_path / "s.npz", **(good | change))
    with pytest.raises(UserError, match=words) as error:
        load_sinogram(tmp_path / "s.npz")
    assert str(tmp_path) in str(error.value)


def test_a_projector_beyond_reason_or_memory_is_refused(modality, model, monkeypatch):
    item = simulate_sinogram(body().values(), AFFINE, 6, None, 0)
    for width in (0.05, 50.0):
        with pytest.raises(UserError, match=f"bins of {width:g} mm with pixels of 2 mm"):
            prepared(modality, model, replace(item, bin_mm=width))
    monkeypatch.setattr("modalities.volume.ct.measured.physical_memory", lambda: 10**6)
    with pytest.raises(UserError, match=r"6 views of 36 x 32 pixels need about .* GiB"):
        prepared(modality, model, item)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (body(), {}, "--simulate"),
        (simulate_sinogram(body().values(), AFFINE, 6, None, 0), {"simulate": True}, "leave out"),
        (Volume(np.zeros((36, 32, 2), np.int16) - 1000, AFFINE), {"simulate": True}, "Hounsfield"),
        (body(affine=np.diag([1.0, 1, 5, 1])), {"simulate": True}, "voxels of 1 x 1 mm"),
        (body(affine=AFFINE @ np.diag([1, 1.1, 1, 1])), {"simulate": True}, "square"),
    ],
)
def test_what_cannot_be_done_is_refused(modality, model, source, options, words):
    with pytest.raises(UserError, match=words):
        prepared(modality, model, source, **options)


def test_a_window_without_air_is_refused(model):
    """Beams cross the air around the body; a model whose darkest number is fat would answer far from the measurements."""
    for low, accepted in ((-160.0, False), (-1000.0, True), (-1024.0, True)):
        narrow = VolumeModality(VolumeSettings(kind="ct", size=(40, 48), voxel_mm=(2.0, 2.0), window=(low, 240.0)))
        if accepted:
            prepared(narrow, model, body(), simulate=True, views=6)
            continue
        with pytest.raises(UserError, match=r"^input: .* begins at -160 HU .* expected .* -1000 HU or below"):
            prepared(narrow, model, body(), simulate=True, views=6)


def smooth(shape, mm, affine_like=AFFINE):
    """A body without detail below a few mm, on any pixel size, with padding of -3024 HU in the corners."""
    affine = affine_like.copy()
    affine[:3, :2] *= mm / 2
    y, x = ((np.arange(n) - (n - 1) / 2) * mm for n in shape[:2])
    outer = 1 / (1 + np.exp((np.hypot(y[:, None] / 1.2, x) - 22) / 2))
    bone = np.exp(-((y[:, None] - 8) ** 2 + (x + 5) ** 2) / 60)
    hu = -1000 + 1000 * outer + 500 * bone
    corner = np.hypot(y[:, None] / y.max(), x / x.max()) > 1.38
    return Volume(np.repeat(np.where(corner, -3024, hu)[..., None], shape[2], 2).astype(np.int16), affine)


@pytest.mark.parametrize(("shape", "mm"), [((73, 63, 2), 1.0), ((25, 21, 3), 3.0)])
def test_another_pixel_size_is_refused_and_taken_with_resample(modality, model, shape, mm):
    truth = smooth(shape, mm)
    with pytest.raises(UserError, match=f"voxels of {mm:g} x {mm:g} mm .* at 2 x 2 mm and takes at most 15 % .*--resample"):
        prepared(modality, model, truth, simulate=True)
    # A network that knows nothing leaves the noise of the start in: little of it, for what is tested is the grid.
    assignment = prepared(modality, model, truth, simulate=True, resample=True, views=90, start_level=0.05)
    assert any("2 x 2 mm" in note for note in assignment.notes)
    hu = np.maximum(truth.values(), -1000)
    for result in (solve(assignment, model, 4), assignment.baselines["tv"]()):
        assert result.shape == truth.shape
        assert np.array_equal(result.affine, truth.affine)
        assert result.data.min() >= -1000.01
        assert np.abs(result.values() - hu).mean() < 12
        assert abs(np.median((result.values() - hu)[np.abs(hu) < 20])) < 8


def test_a_saved_simulation_on_other_pixels_gives_the_same_result(modality, model, tmp_path):
    truth = smooth((73, 63, 2), 1.0)
    simulated = prepared(modality, model, truth, simulate=True, resample=True, views=12)
    path = simulated.measurement(tmp_path)
    with pytest.raises(UserError, match=r"measurement\.npz: voxels of 1 x 1 mm"):
        prepared(modality, model, path)
    measured = prepared(modality, model, path, resample=True)
    assert np.array_equal(solve(simulated, model).data, solve(measured, model).data)
    # Baselines know nothing of the model, so nothing of its pixels.
    own = prepared(VolumeModality(VolumeSettings(kind="ct", size=(80, 96), voxel_mm=(1.0, 1.0))), model, path)
    for name, make in own.baselines.items():
        assert np.array_equal(make().data, measured.baselines[name]().data)


@pytest.mark.parametrize("turned", [False, True])
def test_a_sinogram_without_a_size_covers_the_models_view(modality, model, tmp_path, turned):
    item = simulate_sinogram(smooth((73, 63, 2), 1.0).values(), AFFINE, 12, None, 0)
    affine = np.diag([-1.0, -1, 5, 1])[:, [1, 0, 2, 3] if turned else [0, 1, 2, 3]]
    np.savez(tmp_path / "s.npz", sinogram=item.sinogram, angles_deg=item.angles_deg, bin_mm=1.0, affine=affine)
    result = solve(prepared(modality, model, tmp_path / "s.npz", resample=True), model)
    # The model sees 80 mm of rows (front to back) and 96 mm of columns (side to side).
    assert result.shape == ((80, 96, 2) if turned else (96, 80, 2))
    assert np.array_equal(result.affine, affine)


def test_a_sinogram_of_another_plane_is_refused(modality, model, tmp_path):
    item = simulate_sinogram(body().values(), AFFINE, 6, None, 0)
    for axes in ([2, 0, 1, 3], [0, 2, 1, 3]):
        affine = np.diag([-2.0, -2, 5, 1])[:, axes]
        np.savez(tmp_path / "s.npz", sinogram=item.sinogram, angles_deg=item.angles_deg, bin_mm=2.0, affine=affine)
        with pytest.raises(UserError, match="slices are not axial"):
            prepared(modality, model, tmp_path / "s.npz")


def test_slices_are_measured_apart():
    mu = torch.from_numpy(np.random.default_rng(0).random((9, 12, 10)) * MU_WATER)
    angles = np.array([0.0, 0.7])
    alone = [line_integrals(part, angles, 17, 2.0) for part in mu.split(1)]
    assert torch.equal(line_integrals(mu, angles, 17, 2.0), torch.cat(alone))


def test_damaged_sinograms_end_in_user_errors(tmp_path):
    item = simulate_sinogram(body((9, 8, 1)).values(), AFFINE, 6, 1e4, 0)
    path = save_sinogram(item, tmp_path / "s.npz")
    packed, arrays = path.read_bytes(), dict(np.load(path))
    rng = np.random.default_rng(2)
    refused = 0
    for number in range(600):
        if number % 2:
            # Damage to the archive, and to numbers inside of a sound one.
            data = bytearray(packed[: rng.integers(len(packed))] if number % 5 == 0 else packed)
            if data:
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            path.write_bytes(bytes(data))
        else:
            name = list(arrays)[number // 2 % len(arrays)]
            raw = bytearray(arrays[name].tobytes())
            raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
            changed = np.frombuffer(bytes(raw), arrays[name].dtype).reshape(arrays[name].shape)
            np.savez(path, **(arrays | {name: changed}))
        try:
            load_sinogram(path)
        except UserError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(("steps", "asked", "expected"), [(1, None, 0.05), (4, None, 0.1), (1, 0.3, 0.3), (2, 0.3, 0.3)])
def test_one_step_starts_lower_than_several(modality, model, steps, asked, expected):
    levels = prepared(modality, model, body(), simulate=True, views=12, start_level=asked).levels(steps)
    assert levels[0] == pytest.approx(expected)
    assert len(levels) == steps


def test_detail_that_the_models_pixels_cannot_hold_is_that_of_total_variation(modality, model):
    """Waves of 3 mm, 300 HU high, under a model of 2 mm: as much of them comes back as total variation finds."""
    truth = smooth((73, 63, 2), 1.0)
    waves = np.cos(2 * np.pi * np.arange(73) / 3)[:, None, None] * (truth.values() > -100)
    ours, theirs = [], []
    for height in (0, 300):
        scan = truth.with_values(truth.values() + height * waves)
        assignment = prepared(modality, model, scan, simulate=True, resample=True, views=120, start_level=0.05)
        ours.append((solve(assignment, model, 4).values() * waves).sum() / (waves**2).sum())
        theirs.append((assignment.baselines["tv"]().values() * waves).sum() / (waves**2).sum())
    found, wanted = np.diff(ours)[0], np.diff(theirs)[0]
    assert wanted > 15
    assert 0.6 * wanted < found < 1.4 * wanted
