"""K-space of several coils: sensitivities found in the measurement or stated by it, and what they are good for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mri_toys import AFFINE, head, prepared, relative, simulated_kspace

import modalities.volume
from cmmulti.conditioning import NO_CONDITION
from cmmulti.operators.fourier import Fourier
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.solving import solved
from cmmulti.samplers.multistep import Multistep
from modalities.volume.modality import VolumeModality
from modalities.volume.mri import estimates
from modalities.volume.mri.kspace import KSpace, load_kspace, save_kspace
from modalities.volume.mri.measured import MeasuredMRI
from modalities.volume.mri.sensitivities import smooth_maps
from modalities.volume.mri.simulate import birdcage
from modalities.volume.settings import VolumeSettings

HEAD = Path(modalities.volume.__file__).parent / "inputs" / "head-t1.nii.gz"
AFFINE_5 = AFFINE @ np.diag([2.5, 2.5, 1, 1])


def solve(assignment, model, steps=2):
    """The answer that begins where the task says."""
    return solved(model, Multistep(), assignment, 0, assignment.levels(steps), NO_CONDITION, None)[0]


def alignment(maps, true, weight):
    """How far maps are from the true ones, whatever phase all coils share, where the image is."""
    cosine = (maps.conj() * true).sum(1).abs()
    return float(((1 - cosine**2).clamp_min(0).sqrt() * weight).sum() / weight.sum())


@pytest.fixture(scope="module")
def modality():
    """Of the size of a head, whose sensitivities are smooth beside it."""
    return VolumeModality(VolumeSettings(size=(44, 40), voxel_mm=(5.0, 5.0)))


def scene(coils=8, acceleration=3, noise=0.01):
    """A measurement, the true sensitivities and the true picture, in the order of its slices."""
    item = simulated_kspace(acceleration, noise, coils=coils, affine=AFFINE_5)
    true = torch.from_numpy(birdcage(coils, *item.kspace.shape[2:])).to(torch.complex64)
    return item, true[None], torch.from_numpy(np.moveaxis(head().values(), 2, 0).copy())


def test_coils_on_a_ring_see_all_of_the_picture_together():
    maps = birdcage(6, 30, 20)
    assert np.allclose((np.abs(maps) ** 2).sum(0), 1)
    brightest = [np.unravel_index(np.abs(m).argmax(), m.shape) for m in maps]
    assert len(set(brightest)) == 6
    assert np.abs(np.diff(maps, axis=1)).max() < 0.25
    assert np.array_equal(birdcage(1, 3, 4), np.ones((1, 3, 4)))


@pytest.mark.parametrize("coils", [2, 8])
def test_full_sampling_without_noise_gives_the_input_back(modality, model, coils):
    truth = head(affine=AFFINE_5)
    assignment = prepared(modality, model, truth, simulate=True, coils=coils, acceleration=1, noise=0)
    assert relative(assignment.baselines["zero-filled"](), truth) < 1e-5
    assert relative(solve(assignment, model), truth) < 0.03


def test_eight_coils_of_a_real_head_are_worth_more_than_one():
    pipe = Pipeline.from_pretrained("head-mr")
    head = pipe.modality.load(HEAD)
    few = head.part((slice(0, head.shape[0]), slice(0, head.shape[1]), slice(40, 43)))
    psnr = []
    for coils in (1, 8):
        outcome = pipe.reconstruct(few, "mri", {"simulate": True, "coils": coils}, steps=4, seed=0)
        tv = pipe.modality.metrics(outcome.assignment.baselines["tv"](), few)["psnr"]
        assert outcome.metrics["psnr"] > tv
        psnr.append(outcome.metrics["psnr"])
    assert psnr[1] > psnr[0] + 1.5


def test_sensitivities_are_found_and_the_measured_lines_sharpen_them(modality):
    item, true, weight = scene()
    measured = MeasuredMRI.of(item, modality.settings, None, "toy")
    weight = weight[measured.stack.slices]
    coarse = smooth_maps(measured.sampled.coils.adjoint(measured.sampled.y), estimates.centre_window(item))
    found = alignment(measured.sampled.sensitivities, true, weight)
    assert found < 0.03
    assert found < 0.6 * alignment(coarse, true, weight)
    assert torch.allclose(measured.sampled.sensitivities.abs().square().sum(1), torch.ones(2, 36, 40))


def test_stated_sensitivities_are_taken_as_they_are(modality, model, tmp_path):
    item, true, _ = scene()
    stated = replace(item, sensitivities=true.expand(2, -1, -1, -1).numpy().copy())
    right = prepared(modality, model, stated)
    found = MeasuredMRI.of(stated, modality.settings, None, "toy")
    assert torch.equal(found.sampled.sensitivities, torch.from_numpy(stated.sensitivities)[found.stack.slices])
    again = prepared(modality, model, save_kspace(stated, tmp_path / "k.npz"))
    assert np.allclose(solve(again, model).data, solve(right, model).data, rtol=0, atol=1e-3 * head().data.max())
    # Those of other coils explain nothing.
    swapped = replace(stated, sensitivities=stated.sensitivities[:, ::-1].copy())
    wrong = prepared(modality, model, swapped)
    assert relative(right.baselines["tv"](), head()) < 0.05
    assert relative(wrong.baselines["tv"](), head()) > 0.1
    assert relative(solve(right, model), head()) < 0.8 * relative(solve(wrong, model), head())


def test_every_slice_has_its_own_sensitivities(modality):
    """Six slices, stored from head to foot, in three of which the coils have changed places."""
    shape, mask = (36, 40, 6), np.ones(40, bool)
    affine = AFFINE_5 @ np.diag([1, 1, -1, 1])
    maps = np.repeat(birdcage(4, 36, 40)[None], 6, 0)
    maps[3:] = maps[3:, ::-1]
    image = np.moveaxis(head(shape).values(), 2, 0)[:, None] * (1 + np.arange(6)[:, None, None, None])
    kspace = Fourier(maps.shape[1:])(torch.from_numpy(image * maps)).numpy().astype(np.complex64)
    item = KSpace(kspace, mask, affine, sensitivities=maps.astype(np.complex64))
    measured = MeasuredMRI.of(item, modality.settings, None, "toy")
    assert measured.stack.slices.tolist() == [5, 4, 3, 2, 1, 0]
    pictures = measured.stack.volume(measured.tv(False), None).values()
    assert relative_arrays(pictures, np.moveaxis(image[:, 0], 0, 2)) < 0.05


def relative_arrays(found, want):
    return np.linalg.norm(found - want) / np.linalg.norm(want)


def test_where_sensitivities_are_not_known_the_answer_is_finite(modality, model):
    item, true, _ = scene()
    maps = true.expand(2, -1, -1, -1).numpy().copy()
    maps[:, :, :4] = 0
    assert np.isfinite(solve(prepared(modality, model, replace(item, sensitivities=maps)), model).data).all()


def test_the_order_of_coils_says_nothing(modality, model):
    item, _, _ = scene(5)
    other = replace(item, kspace=np.ascontiguousarray(item.kspace[:, [3, 0, 4, 2, 1]]))
    a, b = (solve(prepared(modality, model, i), model).values() for i in (item, other))
    assert np.abs(a - b).max() < 1e-3 * a.max()


def test_noise_is_the_root_mean_square_over_coils():
    rng = np.random.default_rng(0)
    silent = simulated_kspace(4, 0, shape=(64, 40, 2), coils=2)
    noise = rng.standard_normal(silent.kspace.shape) + 1j * rng.standard_normal(silent.kspace.shape)
    std = np.array([3.0, 6.0])[None, :, None, None]
    noisy = replace(silent, kspace=(silent.kspace + std * noise).astype(np.complex64) * silent.mask)
    assert estimates.estimated_noise(noisy) == pytest.approx(np.sqrt((9 + 36) / 2), rel=0.1)


@pytest.mark.parametrize("acceleration", [1, 3])
def test_scale_comes_within_ten_per_cent(modality, acceleration):
    item, _, _ = scene(8, acceleration)
    values = head().values()
    want = np.percentile(values[values > 0], modality.settings.percentile)
    assert MeasuredMRI.of(item, modality.settings, None, "toy").scale == pytest.approx(want, rel=0.1)


def test_sensitivities_of_any_size_are_divided_by_their_root_sum_of_squares(tmp_path):
    item, true, _ = scene(3)
    maps = 7 * true.expand(2, -1, -1, -1).numpy() * np.linspace(1, 2, 40)
    maps[:, :, :, :2] = 0
    back = load_kspace(save_kspace(replace(item, sensitivities=maps), tmp_path / "k.npz")).sensitivities
    assert np.allclose(back[..., 2:], true.numpy()[..., 2:], atol=1e-5)
    assert not back[..., :2].any()


def test_zero_filled_is_the_root_sum_of_squares():
    item, _, _ = scene(3)
    images = Fourier((36, 40)).adjoint(torch.from_numpy(item.kspace).flatten(0, 1)).view(2, 3, 36, 40)
    assert torch.allclose(estimates.zero_filled(item), images.abs().square().sum(1).sqrt())


def test_a_slice_in_which_nothing_was_seen_stays_empty(modality, model):
    item, _, _ = scene(4, acceleration=1)
    item.kspace[1] = 0
    result = solve(prepared(modality, model, item, noise=0), model).values()
    assert np.abs(result[..., 1]).max() < 0.02 * result[..., 0].max()
