"""What a page shows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from modalities.image.render import ERROR_SCALE, error_map, render


def pixels(media):
    with Image.open(io.BytesIO(media.png)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_small_picture_is_enlarged_by_whole_pixels(random_picture, dtype):
    picture = random_picture(8, 6, 1, dtype)
    (shown,) = render({"input": picture}, None, None)
    assert shown.pixelated
    assert shown.caption == "input"
    large = pixels(shown)
    assert large.shape == (256, 192, 3)
    assert np.array_equal(large[16::32, 16::32, 0], np.rint(picture.array[..., 0] * (255 / picture.white)))


def test_a_large_picture_is_reduced_for_the_page(random_picture):
    (shown,) = render({"input": random_picture(1500, 900)}, None, None)
    assert pixels(shown).shape == (1024, 614, 3)
    assert not shown.pixelated


def test_errors_are_on_one_stated_scale(random_picture):
    truth = random_picture(8, 8)
    truth = truth.holding(truth.array // 2)
    off = truth.array.copy()
    off[0, 0, 1] += ERROR_SCALE // 3
    off[0, 1, 1] += ERROR_SCALE * 3 // 2
    media = render({"input": truth, "result": truth.holding(off), "truth": truth}, "truth", None)
    assert [m.caption for m in media[:3]] == ["input", "result", "truth"]
    assert f"white {ERROR_SCALE} or more of 255 grey levels" in media[3].caption
    found = error_map(truth.holding(off), truth)
    assert found[0, 1].tolist() == [255, 255, 255]
    assert found[2, 2].tolist() == [0, 0, 0]
    assert found[0, 0, 0] > 240
    assert found[0, 0, 1:].tolist() == [0, 0]


def test_the_hole_is_marked(random_picture):
    picture, mark = random_picture(16, 16), np.zeros((16, 16), bool)
    mark[4:8, 4:8] = True
    first, second = render({"input": picture, "result": picture}, None, mark)
    assert "hole marked" in first.caption
    plain = pixels(render({"x": picture}, None, None)[0])
    assert np.array_equal(pixels(first)[:32], plain[:32])
    assert not np.array_equal(pixels(first)[80:112, 80:112], plain[80:112, 80:112])
    assert np.array_equal(pixels(second)[80:112, 80:112], plain[80:112, 80:112])
    assert not np.array_equal(pixels(second)[62:66], plain[62:66])


def test_many_samples_come_on_one_sheet(random_picture):
    panels = {f"seed {i}": random_picture(8, 8, seed=i) for i in range(20)}
    (sheet,) = render(panels, None, None)
    assert sheet.caption == "20 samples, row by row: seed 0 … seed 19"
    large = pixels(sheet)
    scale = 768 // (5 * 9 + 1)
    small = large[scale // 2 :: scale, scale // 2 :: scale]
    assert np.array_equal(small[1:9, 1:9], panels["seed 0"].array)
    assert np.array_equal(small[28:36, 37:45], panels["seed 19"].array)
    assert len(render(dict(list(panels.items())[:12]), None, None)) == 12
