"""Pictures and model tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmmulti.errors import UserError
from modalities.image import representation
from modalities.image.metrics import metrics


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_encode_and_decode_are_exact(random_picture, dtype, channels):
    picture = random_picture(9, 6, channels, dtype, alpha=True)
    x = representation.encode(picture, channels)
    assert x.shape == (1, channels, 9, 6)
    assert x.dtype == torch.float32
    assert float(x.min()) >= -1
    assert float(x.max()) <= 1
    again = representation.decode(x, picture)
    assert np.array_equal(again.array, picture.array)
    assert np.array_equal(again.alpha, picture.alpha)


def test_the_affine_part_is_that_of_the_representation(random_picture):
    for dtype in (np.uint8, np.uint16):
        picture = random_picture(5, 4, 3, dtype)
        values = representation.affine(picture).to_item(representation.encode(picture, 3).double())
        assert torch.allclose(values[0].permute(1, 2, 0), torch.from_numpy(picture.array.astype(float)), atol=0.01)


def test_black_and_white_are_the_ends_and_beyond_is_clipped():
    x = torch.tensor([-7.0, -1.0, 0.0, 1.0, 7.0]).view(1, 1, 1, 5)
    assert representation.decode(x).array.flatten().tolist() == [0, 0, 128, 255, 255]


def test_grey_under_a_colour_model_and_back(random_picture):
    picture = random_picture(4, 4, 1)
    x = representation.encode(picture, 3)
    assert x.shape == (1, 3, 4, 4)
    assert np.array_equal(representation.decode(x, picture).array, picture.array)


def test_colours_under_a_grey_model_are_refused(random_picture):
    with pytest.raises(UserError, match="an RGB picture, and the model knows grey ones only"):
        representation.encode(random_picture(4, 4, 3), 1)


def test_crop_keeps_the_middle_and_the_aspect(random_picture):
    picture = random_picture(8, 20)
    assert np.array_equal(representation.fit(picture, (8, 8), 3).array, picture.array[:, 6:14])
    assert representation.fit(picture, (5, 7), 1).array.shape == (5, 7, 1)
    flat = picture.holding(np.full_like(picture.array, 200))
    assert (representation.fit(flat, (3, 30), 3, "stretch").array == 200).all()


def test_figures_of_known_errors(random_picture):
    truth = random_picture(16, 16)
    truth = truth.holding(truth.array // 2)
    result = truth.holding(truth.array + 10)
    figures = metrics(result, truth)
    assert figures["psnr"] == pytest.approx(20 * np.log10(25.5))
    assert figures["nmse"] == pytest.approx(300 / np.mean(np.sum(truth.array.astype(float) ** 2, 2)))
    from skimage.metrics import structural_similarity

    assert figures["ssim"] == pytest.approx(structural_similarity(truth.array, result.array, channel_axis=-1))
    assert metrics(truth, truth) == {"psnr": 100, "ssim": pytest.approx(1), "nmse": 0}


def test_figures_look_at_the_mark_alone(random_picture):
    truth, mark = random_picture(16, 16), np.zeros((16, 16), bool)
    mark[2:5, 3:9] = True
    worse = truth.array.copy()
    worse[mark] ^= 1
    inside = metrics(truth.holding(worse), truth, mark)
    assert inside["psnr"] == pytest.approx(20 * np.log10(255))
    worse[10:, 10:] = 0
    outside_too = metrics(truth.holding(worse), truth, mark)
    assert outside_too["psnr"] == inside["psnr"]
    assert outside_too["nmse"] == inside["nmse"]


def test_a_reference_of_another_size_is_refused(random_picture):
    with pytest.raises(UserError, match="a reference of 5 x 4 pixels; expected the result's 4 x 4"):
        metrics(random_picture(4, 4), random_picture(4, 5))
