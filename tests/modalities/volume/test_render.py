"""Pictures: sides where they belong, mm aspect, one scale for all, errors on a stated scale."""

import io

import numpy as np
import pytest
from PIL import Image

from cmmulti.media import Picture
from modalities.volume.item import Volume
from modalities.volume.render import GAP, MARGIN, MIDDLE, SMALL, TALL, render
from modalities.volume.settings import VolumeSettings

MR = VolumeSettings(size=(16, 16))


def pixels(picture: object) -> np.ndarray:
    assert isinstance(picture, Picture)
    return np.asarray(Image.open(io.BytesIO(picture.png)))


def head(affine: np.ndarray) -> Volume:
    """Dim tissue with a bright spot in the left, front, upper corner of the patient."""
    volume = Volume(np.full((20, 24, 16), 100, np.int16), affine)
    world = np.moveaxis(np.indices(volume.shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    middle = (volume.affine @ [9.5, 11.5, 7.5, 1])[:3]
    spot = (world[..., 0] < middle[0] - 6) & (world[..., 1] > middle[1] + 6) & (world[..., 2] > middle[2] + 4)
    data = volume.data.copy()
    data[spot] = 1000
    return Volume(data, affine), spot


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_left_is_on_the_right_front_and_head_are_up(flips):
    volume, spot = head(np.diag([*(2.0 * f for f in flips), 1.0]))
    picture = pixels(render({"x": volume}, MR, mark=spot)[0])[..., 0].astype(float)
    widths = [round(20 * MIDDLE / 24), round(20 * MIDDLE / 24), MIDDLE]
    starts = [0, widths[0] + 2 * MARGIN + GAP, widths[0] + widths[1] + 4 * MARGIN + 2 * GAP]
    tiles = [picture[:, s + MARGIN : s + MARGIN + w] for s, w in zip(starts, widths, strict=True)]
    for tile, side in zip(tiles, ("right", "right", "left"), strict=True):
        y, x = (v.mean() for v in np.nonzero(tile > 200))
        assert y < tile.shape[0] / 2
        assert (x > tile.shape[1] / 2) == (side == "right")


def test_voxels_are_drawn_in_mm():
    volume = Volume(np.full((10, 10, 10), 100, np.int16), np.diag([1.0, 1, 4, 1]))
    picture = pixels(render({"x": volume}, MR)[0])
    # The tallest side is 40 mm = MIDDLE pixels; the others are a quarter of that.
    assert picture.shape == (MIDDLE + 2 * MARGIN, 3 * (round(MIDDLE / 4) + 2 * MARGIN) + 2 * GAP, 3)


def test_a_reference_in_another_stored_order_is_laid_on_the_others():
    volume, spot = head(np.diag([2.0, 2, 2, 1]))
    turned = np.diag([-2.0, 2, 2, 1])
    turned[0, 3] = 19 * 2
    truth = Volume(volume.data[::-1], turned)
    stored, same = (render({"x": volume, "truth": t}, MR, "truth", spot) for t in (truth, volume))
    for a, b in zip(stored, same, strict=True):
        assert np.array_equal(pixels(a), pixels(b))


@pytest.mark.parametrize("shift", [(-30.0, 55.0, -20.0), (-0.8, 0.0, 0.8)])
def test_a_reference_is_shown_slice_by_slice_beside_the_others_wherever_it_lies(shift):
    """Figures lay a reference on a measurement without a place, or one half a voxel off, by the order of storage."""
    affine = np.diag([2.0, 2, 2, 1])
    # Each voxel has a value of its own, so that a panel shows which slices it was cut from.
    result = Volume(100 + np.arange(12 * 10 * 14, dtype=np.int16).reshape(12, 10, 14), affine, placed=False)
    moved = affine.copy()
    moved[:3, 3] = shift
    media = render({"result": result, "truth": Volume(result.data, moved)}, MR, "truth")
    shown, truth = (pixels(m) for m in media)
    assert np.array_equal(shown[: len(truth)], truth)


def test_padding_below_air_is_no_error_in_ct():
    settings = VolumeSettings(kind="ct", size=(16, 16))
    truth = Volume(np.full((16, 16, 1), -3024, np.int16), np.diag([2.0, 2, 2, 1]))
    result = Volume(np.full((16, 16, 1), -1000, np.int16), truth.affine)
    shown = render({"result": result, "truth": truth}, settings, "truth")[0]
    assert pixels(shown)[TALL + 2 * MARGIN + GAP :][MARGIN : MARGIN + TALL, MARGIN:-MARGIN].max() < 10


def test_one_slice_is_one_tile():
    volume = Volume(np.full((12, 1, 12), 100, np.int16), np.diag([2.0, 2, 2, 1]))
    media = render({"x": volume}, MR)
    assert pixels(media[0]).shape == (TALL + 2 * MARGIN, TALL + 2 * MARGIN, 3)
    assert isinstance(media[0], Picture)
    assert "coronal" in media[0].alt


def test_panels_share_their_scale_and_errors_have_a_stated_one():
    affine = np.diag([2.0, 2, 2, 1])
    truth = Volume(np.full((12, 12, 1), 400, np.int16), affine)
    result = Volume(np.full((12, 12, 1), 440, np.int16), affine)
    media = render({"input": result, "truth": truth}, MR, "truth")
    shown = [pixels(m) for m in media]
    middle = MARGIN + TALL // 2
    assert shown[1][middle, middle].tolist() == [255, 255, 255]
    assert shown[0].shape[0] == 2 * (TALL + 2 * MARGIN) + GAP
    assert shown[1].shape[0] == TALL + 2 * MARGIN
    # 40 of 400 is half of the fifth of the window that errors are shown on.
    half = shown[0][TALL + 2 * MARGIN + GAP + middle, middle]
    assert half.tolist() == pytest.approx([188, 55, 84], abs=3)
    assert all("black 0, white 400" in m.caption for m in media)
    assert "x5: brightest 80 or more" in media[0].caption


def test_ct_is_shown_in_hu():
    volume = Volume(np.full((12, 12, 1), -300, np.int16), np.diag([2.0, 2, 2, 1]))
    picture = render({"x": volume}, VolumeSettings(kind="ct", size=(16, 16)))[0]
    assert "black -1000, white 400 HU" in picture.caption
    assert pixels(picture)[MARGIN + TALL // 2, MARGIN + TALL // 2, 0] == 128


def test_the_hole_is_outlined():
    volume = Volume(np.full((12, 12, 1), 100, np.int16), np.diag([2.0, 2, 2, 1]))
    mark = np.zeros((12, 12, 1), bool)
    mark[4:8, 4:8] = True
    yellow = (pixels(render({"x": volume}, MR, mark=mark)[0]) == (255, 208, 0)).all(-1)
    assert yellow.any()
    assert not yellow[MARGIN + TALL // 2, MARGIN + TALL // 2]
    assert not (pixels(render({"x": volume}, MR)[0]) == (255, 208, 0)).all(-1).any()


def test_of_two_holes_one_is_shown():
    volume = Volume(np.full((12, 12, 12), 100, np.int16), np.diag([2.0, 2, 2, 1]))
    mark = np.zeros(volume.shape, bool)
    mark[1:4, 1:4, 1:4] = mark[8:11, 8:11, 8:11] = True
    yellow = (pixels(render({"x": volume}, MR, mark=mark)[0]) == (255, 208, 0)).all(-1)
    assert all(tile.any() for tile in np.array_split(yellow, 3, axis=1))


def test_many_samples_are_small_and_empty_scans_are_drawn():
    volume = Volume(np.zeros((12, 12, 1), np.int16), np.diag([2.0, 2, 2, 1]))
    media = render({f"seed {i}": volume for i in range(6)}, MR)
    assert len(media) == 6
    assert pixels(media[0]).shape[0] == SMALL + 2 * MARGIN
    assert render({}, MR) == []
