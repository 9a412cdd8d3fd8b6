"""The other tasks: each result agrees with its input in the way that the task promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmmulti.errors import UserError
from modalities.image import files
from modalities.image.picture import LUMA, Picture
from modalities.image.tasks import TASKS
from modalities.image.tasks.common import descending, level_of
from modalities.image.tasks.denoise import non_local_means, total_variation, with_noise
from modalities.image.tasks.interpolate import slerp
from modalities.image.tasks.super_resolve import block_means

SIZES = [(16, 16), (7, 10), (41, 18)]


def luma(array):
    return array.astype(float) @ (np.array(LUMA) / sum(LUMA))


@pytest.mark.parametrize("size", [(8, 8), (3, 5), (21, 10)])
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint16)])
def test_block_means_of_a_finer_picture_are_the_input(rgb, random_picture, size, factor, channels, dtype):
    low = random_picture(*size, channels, dtype)
    low = low.holding(low.array // 2 + low.white // 4)  # blocks of pure black or white leave no room for detail
    result = rgb.edit(low, "super-resolve", {"factor": factor}, steps=2).items[0]
    assert result.array.dtype == dtype
    assert result.array.shape == (size[0] * factor, size[1] * factor, channels)
    means = result.array.reshape(size[0], factor, size[1], factor, channels).astype(float).mean((1, 3))
    assert np.abs(means - low.array).max() <= 1.0 * (low.white / 255)
    assert np.abs(result.array.astype(float) - low.array.repeat(factor, 0).repeat(factor, 1)).max() > 1


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint16)])
def test_block_means_are_the_input_beside_black_and_white(rgb, random_picture, factor, channels, dtype):
    """Where clipping takes from a block, the rest of the block makes up for all of it."""
    low = random_picture(8, 8, channels, dtype)
    low = low.holding(np.where(low.array < low.white // 3, 0, low.array))
    low = low.holding(np.where(low.array > low.white // 3 * 2, low.white, low.array))
    result = rgb.edit(low, "super-resolve", {"factor": factor}, steps=2).items[0]
    means = result.array.reshape(8, factor, 8, factor, channels).astype(float).mean((1, 3))
    assert np.abs(means - low.array).max() <= 0.6


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(("task", "options"), [("super-resolve", {}), ("stroke", {}), ("interpolate", {})])
def test_transparency_that_is_left_out_is_told(rgb, random_picture, tmp_path, alpha, task, options):
    picture = random_picture(16, 16, alpha=alpha)
    if task == "interpolate":
        options = {"other": files.save(random_picture(16, 16), tmp_path / "other.png"), "frames": 2}
    outcome = rgb.edit(picture, task, options, steps=1)
    assert outcome.items[0].alpha is None
    assert any("transparency was left out" in note for note in outcome.notes) == alpha


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_keep_the_grey_values(rgb, random_picture, size, dtype):
    picture = random_picture(*size, 1, dtype)
    result = rgb.edit(picture, "colorize", steps=2).items[0]
    assert result.array.shape == (*size, 3)
    assert result.array.dtype == dtype
    assert np.abs(luma(result.array) - picture.array[..., 0]).max() <= 1
    assert np.ptp(result.array.astype(float), axis=2).max() > 1


def test_colours_of_the_input_are_not_looked_at(rgb, random_picture):
    picture = random_picture(16, 16)
    grey = picture.holding(np.rint(picture.grey())[..., None].astype(np.uint8))
    results = [rgb.edit(p, "colorize", steps=2).items[0].array for p in (picture, grey)]
    assert np.array_equal(results[0], results[1])


def test_colorize_needs_a_model_of_colours_and_a_picture_with_them_to_compare(rgb, grey, random_picture):
    with pytest.raises(UserError, match="expected one of RGB pictures"):
        grey.edit(random_picture(8, 8, 1), "colorize")
    with pytest.raises(UserError, match="expects one with colours"):
        rgb.edit(random_picture(8, 8, 1), "colorize", {"simulate": True})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_denoising_with_a_perfect_model_of_flat_pictures(rgb, random_picture, size, channels, monkeypatch):
    """Where the model's answer is the mean of its input, noise averages out and nothing else moves."""
    flat = random_picture(*size, channels)
    flat = flat.holding(np.full_like(flat.array, 100))
    monkeypatch.setattr(rgb.model, "endpoint", lambda x, s, c: x.mean((1, 2, 3), keepdim=True).expand_as(x))
    result = rgb.edit(with_noise(flat, 10, 0), "denoise", {"sigma": 10}).items[0]
    assert result.array.shape == flat.array.shape
    assert np.abs(result.array.astype(float) - 100).max() < 5


def test_a_grey_picture_under_a_colour_model_is_told_at_white_noise_of_the_right_strength(rgb, random_picture, monkeypatch):
    flat = random_picture(64, 64, 1)
    noisy = with_noise(flat.holding(np.full_like(flat.array, 128)), 20, 0)
    seen = []

    def endpoint(x, sigma, condition):
        seen.append((x, sigma))
        return x

    monkeypatch.setattr(rgb.model, "endpoint", endpoint)
    result = rgb.edit(noisy, "denoise", {"sigma": 20}, steps=1).items[0]
    x, sigma = seen[0]
    assert sigma == pytest.approx(3**0.5 * 20 / 127.5)
    covariance = torch.cov(x.transpose(0, 1).flatten(1))
    assert torch.allclose(covariance, sigma**2 * torch.eye(3), atol=0.08 * sigma**2)
    # The mean of the three is the picture as it was, but for colours that clipping to the valid range has moved.
    assert np.mean(result.array == noisy.array) > 0.98


def test_the_first_step_of_denoising_sees_the_picture_itself(rgb, random_picture, monkeypatch):
    picture, seen = random_picture(16, 16), []
    monkeypatch.setattr(rgb.model, "endpoint", lambda x, s, c: seen.append((x, s)) or x)
    rgb.edit(picture, "denoise", {"sigma": 25.5}, steps=1)
    assert torch.equal(seen[0][0], rgb.modality.encode(picture))
    assert seen[0][1] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("super-resolve", {"factor": 2, "simulate": True}),
        ("denoise", {"sigma": 20, "simulate": True}),
        ("colorize", {"simulate": True}),
    ],
)
def test_a_simulated_input_is_saved_and_gives_the_same_again(rgb, random_picture, tmp_path, task, options):
    picture = random_picture(20, 18)
    outcome = rgb.edit(picture, task, options, steps=2)
    assert outcome.truth is not None
    assert "simulated" in outcome.notes[0]
    assert set(outcome.metrics) == {"psnr", "ssim", "nmse"}
    saved = outcome.assignment.measurement(tmp_path)
    plain = {name: value for name, value in options.items() if name != "simulate"}
    again = rgb.edit(saved, task, plain, steps=2)
    assert np.array_equal(again.items[0].array, outcome.items[0].array)
    assert again.truth is None
    assert all(set(figures) == {"psnr", "ssim", "nmse"} for figures in outcome.baselines.values())


def test_simulated_noise_has_the_strength_asked_for(random_picture):
    for dtype in (np.uint8, np.uint16):
        picture = random_picture(64, 64, 3, dtype)
        grey = picture.holding(np.full_like(picture.array, picture.white // 2))
        noise = with_noise(grey, 12, 3).array.astype(float) - grey.array
        assert noise.std() * 255 / picture.white == pytest.approx(12, rel=0.03)


def test_reducing_by_block_means(random_picture):
    picture = random_picture(9, 7)
    low = block_means(picture, 2)
    assert low.size == (4, 3)
    assert low.array[0, 0, 0] == round(float(picture.array[:2, :2, 0].mean()))


@pytest.mark.parametrize(("size", "channels"), [((16, 16), 3), ((50, 20), 1)])
def test_a_stroke_gives_a_picture_of_the_models_size(rgb, random_picture, size, channels):
    outcome = rgb.edit(random_picture(*size, channels, np.uint16), "stroke", {"strength": 0.4}, steps=2)
    assert outcome.items[0].array.shape == (16, 16, channels)
    assert outcome.items[0].array.dtype == np.uint16
    assert outcome.levels[0] == pytest.approx(0.2 * 100**0.4)


def test_the_weakest_stroke_is_nearest_to_its_guide(rgb, random_picture, monkeypatch):
    """With a model that takes noise away perfectly, what is left of the guide is what was not noised."""
    monkeypatch.setattr(rgb.model, "endpoint", lambda x, s, c: x / (1 + s**2))
    guide = random_picture(16, 16)
    errors = [
        np.abs(rgb.edit(guide, "stroke", {"strength": s}, steps=1).items[0].array.astype(float) - guide.array).mean()
        for s in (0.0, 0.2, 0.4)
    ]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1] / 3


def test_a_grey_model_takes_a_coloured_guide_for_its_greys(grey, random_picture):
    outcome = grey.edit(random_picture(16, 16, 3), "stroke")
    assert outcome.items[0].channels == 1
    assert "mixed to grey" in outcome.notes[0]


def test_between_two_seeds_the_ends_are_what_the_seeds_generate(rgb):
    frames = rgb.edit(None, "interpolate", {"other_seed": 9, "frames": 5}, steps=1, seed=4, levels=[80.0]).items[0].array
    assert frames.shape == (16, 5 * 16, 3)
    for seed, part in ((4, frames[:, :16]), (9, frames[:, -16:])):
        sample = rgb.sample(1, seed=seed, levels=[80.0]).items[0].array
        assert np.abs(part.astype(int) - sample).max() <= 1


def test_between_two_pictures_the_ends_are_the_pictures_when_little_is_free(rgb, random_picture, tmp_path, monkeypatch):
    monkeypatch.setattr(rgb.model, "endpoint", lambda x, s, c: x)
    first, last = random_picture(16, 16), random_picture(16, 16, seed=1)
    files.save(last, tmp_path / "last.png")
    options = {"other": tmp_path / "last.png", "frames": 3, "strength": 0.0}
    frames = rgb.edit(first, "interpolate", options, steps=1).items[0].array.astype(float)
    noise = [frames[:, :16] - first.array, frames[:, 32:] - last.array]
    inside = (np.abs(first.array - 127.0) < 20) & (np.abs(last.array - 127.0) < 20)
    assert np.abs(noise[0] - noise[1])[inside].max() <= 1  # all frames have the same noise
    assert frames.shape == (16, 48, 3)


def test_frames_share_the_noise_of_later_steps(rgb, random_picture, tmp_path):
    """Equal ends give equal frames, at any number of steps."""
    picture = random_picture(16, 16)
    files.save(picture, tmp_path / "x.png")
    strip = rgb.edit(picture, "interpolate", {"other": tmp_path / "x.png", "frames": 4}, steps=3).items[0].array
    for i in range(1, 4):
        assert np.abs(strip[:, 16 * i : 16 * (i + 1)].astype(int) - strip[:, :16]).max() <= 1


@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint16)])
def test_classical_denoisers_take_noise_out(channels, dtype):
    steps = np.where(np.add.outer(np.arange(32) // 8, np.arange(32) // 8) % 2, 0.7, 0.3)
    clean = Picture(np.rint(steps * np.iinfo(dtype).max).astype(dtype)[..., None].repeat(channels, 2))
    noisy = with_noise(clean, 20, 0)
    before = np.abs(noisy.array.astype(float) - clean.array).mean()
    for denoised in (non_local_means(noisy, 20), total_variation(noisy, 20)):
        assert denoised.array.dtype == dtype
        assert denoised.array.shape == clean.array.shape
        assert np.abs(denoised.array.astype(float) - clean.array).mean() < 0.6 * before


def test_slerp_keeps_the_size_of_noise():
    a, b = torch.randn(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    between = slerp(a, b, torch.linspace(0, 1, 5))
    assert torch.allclose(between[0], a[0], atol=1e-6)
    assert torch.allclose(between[-1], b[0], atol=1e-6)
    assert all(abs(float(x.std()) - 1) < 0.1 for x in between)
    assert torch.equal(slerp(a, a, torch.tensor([0.5])), a)


@pytest.mark.parametrize(
    ("task", "options", "told"),
    [
        ("super-resolve", {"factor": 3}, "factor = 3: expected a divisor of this model's size, 16 x 16"),
        ("super-resolve", {"factor": 1}, "factor"),
        ("denoise", {}, "missing key 'sigma' \\(standard deviation of the noise"),
        ("inpaint", {"box": (1, 2)}, "box = \\(1, 2\\): expected 4 values, got 2$"),
        ("inpaint", {"box": "1,2,3,x"}, "box.3 = 'x'"),
        ("denoise", {"sigma": -1}, "sigma"),
        ("denoise", {"sigma": float("nan")}, "sigma"),
        ("denoise", {"sigma": 1e9}, "sigma = 1e\\+09: expected at most"),
        ("stroke", {"strength": 1.5}, "strength"),
        ("interpolate", {}, "expected an input and `other`"),
        ("interpolate", {"other_seed": 3}, "expected an input and `other`"),
        ("interpolate", {"other_seed": -3}, "other_seed"),
        ("interpolate", {"other": "/no.png"}, "/no.png: cannot be read"),
        ("mri", {}, "unknown image task for `edit` 'mri'"),
    ],
)
def test_mistakes_are_told(rgb, random_picture, task, options, told):
    with pytest.raises(UserError, match=told):
        rgb.edit(random_picture(16, 16), task, options)


def test_tasks_are_registered_under_their_names():
    assert list(TASKS) == ["inpaint", "super-resolve", "colorize", "stroke", "denoise", "interpolate"]
    assert all(task.verb == "edit" and task.summary for task in TASKS.values())


def test_levels_start_where_they_should():
    assert descending(2.0)(1) == [2.0]
    assert descending(2.0)(3) == pytest.approx([2.0, (2 * 0.3) ** 0.5, 0.3])
    assert level_of(1.0, 80.0) == pytest.approx(20.0)
    assert level_of(1.0, 5.0) == 5.0


def test_a_seed_of_noise_that_is_not_simulated_is_refused(rgb):
    noisy = with_noise(Picture(np.full((32, 32, 3), 128, np.uint8)), 10, 0)
    with pytest.raises(UserError, match="noise_seed = 3: is for noise that is simulated"):
        rgb.edit(noisy, "denoise", {"sigma": 10, "noise_seed": 3})
