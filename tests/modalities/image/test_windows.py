"""Windows: everything is covered, every hole lies in its window with room around it, blending is a mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmmulti.errors import UserError
from modalities.image.windows import around, covering

SIDES = st.tuples(st.integers(4, 12), st.integers(4, 12))
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(size=SIZES, side=SIDES)
def test_cutting_and_blending_gives_the_picture_back(size, side):
    windows = covering(size, side)
    picture = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(windows.blend(windows.cut(picture)), picture)
    assert int(windows.inside().sum()) >= size[0] * size[1]


@settings(max_examples=30, deadline=None)
@given(blocks=st.tuples(st.integers(1, 15), st.integers(1, 15)), factor=st.sampled_from([2, 4]))
def test_corners_lie_on_the_grid(blocks, factor):
    windows = covering((blocks[0] * factor, blocks[1] * factor), (8, 8), grid=factor)
    assert all(v % factor == 0 for corner in windows.corners for v in corner)
    assert torch.allclose(windows.blend(windows.cut(torch.ones(1, 1, *windows.size))), torch.ones(1, 1, *windows.size))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.tuples(st.integers(17, 50), st.integers(17, 50)))
def test_every_hole_has_a_window_with_room_around_it(seed, size):
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, bool)
    for _ in range(rng.integers(0, 5)):
        top, left = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 6)
        mask[top : top + rng.integers(1, 6), left : left + rng.integers(1, 6)] = True
    found = around(mask, (16, 16))
    if found is None:
        return
    windows, owner = found
    assert np.array_equal(owner >= 0, mask)
    for row, column in zip(*np.nonzero(mask), strict=True):
        top, left = windows.corners[owner[row, column]]
        for at, start, n in ((row, top, size[0]), (column, left, size[1])):
            assert start + min(2, start) <= at < start + 16 - min(2, n - start - 16)
    parts = torch.arange(len(windows.corners)).view(-1, 1, 1, 1).expand(-1, 1, 16, 16).float()
    assert np.array_equal(windows.put(parts, owner, torch.full((1, 1, *size), -1.0))[0, 0].numpy(), owner)


def test_near_holes_share_a_window_and_far_ones_do_not():
    mask = np.zeros((64, 64), bool)
    mask[10:12, 10:12] = mask[14:16, 14:16] = mask[50:52, 50:52] = True
    windows, owner = around(mask, (16, 16))
    assert len(windows.corners) == 2
    assert owner[10, 10] == owner[14, 14] != owner[50, 50]


def test_a_hole_larger_than_a_window_has_none():
    mask = np.zeros((64, 64), bool)
    mask[10:30, 10] = True
    assert around(mask, (16, 16)) is None


def test_a_picture_far_too_large_is_refused_with_the_numbers():
    with pytest.raises(UserError, match=r"4000 x 3000 pixels needs \d+ windows of this model's 32 x 32; expected 1024"):
        covering((3000, 4000), (32, 32))
