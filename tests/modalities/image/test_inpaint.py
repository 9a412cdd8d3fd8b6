"""Filling holes: what was not asked for stays, what lay in the hole does not matter."""

from __future__ import annotations

import numpy as np
import pytest

from cmmulti.errors import UserError
from modalities.image import files
from modalities.image.picture import Picture
from modalities.image.tasks.inpaint import enlarged, planned, reduced

BOX = "5,3,11,9"


def hole(height, width, box=(5, 3, 11, 9)):
    mask = np.zeros((height, width), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


CASES = [
    (16, 16, 3, np.uint8),
    (12, 14, 3, np.uint8),
    (40, 23, 3, np.uint16),
    (30, 16, 1, np.uint8),
    (16, 40, 1, np.uint16),
]


@pytest.mark.parametrize(("height", "width", "channels", "dtype"), CASES)
def test_outside_is_untouched_inside_is_filled(rgb, random_picture, height, width, channels, dtype):
    picture, mask = random_picture(height, width, channels, dtype, alpha=True), hole(height, width)
    result = rgb.edit(picture, "inpaint", {"box": BOX}, steps=2).items[0]
    assert result.array.dtype == dtype
    assert result.array.shape == picture.array.shape
    assert np.array_equal(result.array[~mask], picture.array[~mask])
    assert np.array_equal(result.alpha, picture.alpha)
    assert not np.array_equal(result.array[mask], picture.array[mask])


@pytest.mark.parametrize(("height", "width", "channels", "dtype"), CASES)
@pytest.mark.parametrize("box", [(5, 3, 11, 9), (0, 0, 14, 12)], ids=["small", "large"])
def test_what_lay_in_the_hole_never_matters(rgb, random_picture, height, width, channels, dtype, box):
    picture, mask = random_picture(height, width, channels, dtype), hole(height, width, box)
    other = picture.array.copy()
    other[mask] = random_picture(height, width, channels, dtype, seed=1).array[mask]
    words = ",".join(map(str, box))
    results = [rgb.edit(p, "inpaint", {"box": words}, steps=2).items[0] for p in (picture, picture.holding(other))]
    assert np.array_equal(results[0].array, results[1].array)


def test_what_lies_around_the_hole_does_matter(rgb, random_picture):
    picture, mask = random_picture(16, 16), hole(16, 16)
    other = random_picture(16, 16, seed=1)
    first, second = (rgb.edit(p, "inpaint", {"box": BOX}, steps=2).items[0].array[mask] for p in (picture, other))
    assert not np.array_equal(first, second)


def test_a_grey_model_fills_grey_pictures_and_refuses_colours(grey, random_picture):
    picture = random_picture(16, 16, 1)
    assert grey.edit(picture, "inpaint", {"box": BOX}).items[0].channels == 1
    with pytest.raises(UserError, match="expected a grey picture"):
        grey.edit(random_picture(16, 16, 3), "inpaint", {"box": BOX})


def test_the_mask_file_says_the_same_as_the_box(rgb, random_picture, tmp_path):
    picture = random_picture(20, 18)
    files.save(picture, tmp_path / "x.png")
    mask = np.repeat(hole(20, 18)[..., None], 3, 2).astype(np.uint8)
    mask[..., :2] = 0  # one channel not 0 is enough, and so is the value 1
    files.save(Picture(mask), tmp_path / "m.png")
    by_mask = rgb.edit(tmp_path / "x.png", "inpaint", {"mask": tmp_path / "m.png"}).items[0]
    by_box = rgb.edit(picture, "inpaint", {"box": (5, 3, 11, 9)}).items[0]
    assert np.array_equal(by_mask.array, by_box.array)


def test_an_empty_mask_returns_the_input_and_says_so(rgb, random_picture, tmp_path):
    picture = random_picture(40, 16)
    files.save(Picture(np.zeros((40, 16, 1), np.uint8)), tmp_path / "m.png")
    outcome = rgb.edit(picture, "inpaint", {"mask": tmp_path / "m.png"})
    assert np.array_equal(outcome.items[0].array, picture.array)
    (note,) = outcome.notes
    assert "hole is empty" in note


def test_seeds_differ_and_repeat(rgb, random_picture):
    picture = random_picture(30, 30)
    three = rgb.edit(picture, "inpaint", {"box": BOX}, seed=4, samples=3).items
    again = rgb.edit(picture, "inpaint", {"box": BOX}, seed=5).items[0]
    assert np.array_equal(three[1].array, again.array)
    assert not np.array_equal(three[0].array, three[1].array)


def test_a_large_hole_is_filled_coarsely_and_said_so(rgb, random_picture):
    outcome = rgb.edit(random_picture(60, 50), "inpaint", {"box": "10,10,40,34"})
    assert "filled at 1/3 of the resolution" in " ".join(outcome.notes)


def test_a_picture_that_is_all_hole_is_filled(rgb, random_picture):
    for size in (16, 50):
        outcome = rgb.edit(random_picture(size, size), "inpaint", {"box": f"0,0,{size},{size}"})
        assert outcome.items[0].size == (size, size)


def test_reducing_keeps_known_means_and_their_places(rgb, random_picture):
    x, mask = rgb.modality.encode(random_picture(12, 9)), hole(12, 9, (3, 3, 4, 4))
    small, small_mask = reduced(x, mask, 3)
    assert small_mask.sum() == 1
    assert small[0, 0, 0, 0] == pytest.approx(float(x[0, 0, :3, :3].mean()), abs=1e-6)
    assert float(small[0, :, 1, 1].abs().max()) == 0
    ramp = np.linspace(-1, 1, 48, dtype=np.float32)
    import torch

    wide = torch.from_numpy(np.tile(ramp, (48, 1)))[None, None]
    again = enlarged(reduced(wide, np.zeros((48, 48), bool), 4)[0], 4, (48, 48))
    assert float((again - wide).abs()[..., 8:-8].max()) < 0.01
    assert planned(mask, (16, 16))[0] == 1


def test_baselines_fill_the_hole_alone_and_do_not_look(rgb, random_picture):
    picture, mask = random_picture(16, 16), hole(16, 16)
    other = picture.array.copy()
    other[mask] = 0
    outcomes = [rgb.edit(p, "inpaint", {"box": BOX}, reference=picture) for p in (picture, picture.holding(other))]
    assert set(outcomes[0].baselines) == {"mean", "nearest", "biharmonic"}
    for name, item in outcomes[0].baseline_items.items():
        assert np.array_equal(item.array[~mask], picture.array[~mask])
        assert np.array_equal(item.array, outcomes[1].baseline_items[name].array)
    assert outcomes[0].metrics == outcomes[1].metrics
    nearest, (rows, columns) = outcomes[0].baseline_items["nearest"].array, np.nonzero(mask)
    top, left = rows.min(), columns.min()
    assert np.array_equal(nearest[top, left + 1], picture.array[top - 1, left + 1])
    assert set(outcomes[0].metrics) == {"psnr", "ssim", "nmse"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "expected one of mask and box, got neither"),
        ({"box": "1,1,2,2", "mask": "m.png"}, "got both"),
        ({"box": "5,3,5,9"}, "box = 5,3,5,9: expected x0,y0,x1,y1 with 0 <= x0 < x1 <= 16"),
        ({"box": "0,0,17,4"}, "<= 16"),
        ({"box": "-1,0,4,4"}, "0 <= x0"),
        ({"box": "0,0,4"}, "box"),
        ({"box": "a,b,c,d"}, "box"),
        ({"mask": "/no/such.png"}, "/no/such.png: cannot be read"),
        ({"boxx": "1,1,2,2"}, "did you mean 'box'"),
    ],
)
def test_mistakes_are_told(rgb, random_picture, options, told):
    with pytest.raises(UserError, match=told):
        rgb.edit(random_picture(16, 16), "inpaint", options)


def test_masks_that_do_not_fit_are_refused(rgb, random_picture, tmp_path):
    files.save(random_picture(16, 15), tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m\.png: 15 x 16 pixels; expected those of the picture, 16 x 16"):
        rgb.edit(random_picture(16, 16), "inpaint", {"mask": tmp_path / "m.png"})
    from PIL import Image

    Image.new("L", (16, 16)).save(tmp_path / "m.jpg")
    with pytest.raises(UserError, match="a mask must be PNG"):
        rgb.edit(random_picture(16, 16), "inpaint", {"mask": tmp_path / "m.jpg"})


def test_a_mask_that_says_it_by_transparency_is_refused(rgb, random_picture, tmp_path):
    """Programs that paint erase the hole from a white or coloured layer: every colour would then be a hole."""
    mask = np.full((16, 16, 3), 255, np.uint8)
    files.save(Picture(mask, np.where(hole(16, 16), 0, 255).astype(np.uint8)), tmp_path / "m.png")
    with pytest.raises(
        UserError, match=r"m\.png: partly transparent; expected a mask whose hole is where its colour is not 0"
    ):
        rgb.edit(random_picture(16, 16), "inpaint", {"mask": tmp_path / "m.png"})
    opaque = Picture(np.where(hole(16, 16)[..., None], mask, 0).astype(np.uint8), np.full((16, 16), 255, np.uint8))
    files.save(opaque, tmp_path / "m.png")
    results = [
        rgb.edit(random_picture(16, 16), "inpaint", how).items[0] for how in ({"mask": tmp_path / "m.png"}, {"box": BOX})
    ]
    assert np.array_equal(results[0].array, results[1].array)
