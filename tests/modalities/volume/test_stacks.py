"""A measured stack of slices beside a model's pixels: the way between both is an operator with an exact adjoint."""

import numpy as np
import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.operators.fourier import Fourier, Phase
from cmmulti.operators.mask import Mask
from cmmulti.operators.radon import Radon
from cmmulti.testing.operators import check_operator
from modalities.volume.settings import VolumeSettings
from modalities.volume.stacks import Stack, covering_size

SETTINGS = VolumeSettings(size=(11, 14), voxel_mm=(2.0, 3.0))
"""Rows 22 mm, columns 42 mm."""


def stack(rows, columns, row_mm, column_mm, resample=True, turned=False):
    """Rows run to the front and columns to the right, or the other way round; both against the model's order."""
    affine = np.diag([row_mm, column_mm, 5.0, 1.0]) if turned else np.diag([column_mm, row_mm, 5.0, 1.0])[:, [1, 0, 2, 3]]
    return Stack((rows, columns, 2), affine, SETTINGS, resample)


STACKS = {
    "finer": stack(21, 37, 1.0, 1.1),
    "coarser": stack(7, 9, 3.1, 4.7),
    "turned": stack(37, 19, 1.1, 1.2, turned=True),
    "one axis alone": stack(11, 9, 2.0, 4.7),
}
OPERATORS = {name: s.arrangement for name, s in STACKS.items()}
OPERATORS["mri"] = (
    Mask((torch.arange(37) % 3 == 0).expand(1, 21, 37), (1, 21, 37), complex_domain=True)
    @ Fourier((1, 21, 37))
    @ Phase(torch.linspace(0, 6, 21 * 37, dtype=torch.float64).view(1, 1, 21, 37))
    @ STACKS["finer"].arrangement
)
OPERATORS["ct"] = Radon((1, 7, 9), torch.linspace(0, 3, 5, dtype=torch.float64), 3.1) @ STACKS["coarser"].arrangement


# Conjugate gradient does not reach the pseudo-inverse of measurements as incomplete as these two in its usual iterations.
INCOMPLETE = ("mri", "ct")


@pytest.mark.parametrize(**check_operator.cases(OPERATORS, {"pseudo_inverse": INCOMPLETE, "minimum_norm": INCOMPLETE}))
def test_contract(check, piece):
    check(piece)


@pytest.mark.parametrize("name", STACKS)
def test_pixels_are_the_models_and_the_field_of_view_stays(name):
    s = STACKS[name]
    assert s.resampling is not None
    here = np.array(s.arrangement.domain[1:])
    view = np.array(s.order.domain[1:]) * s.blank.voxel_mm[[1, 0] if s.turned else [0, 1]]
    assert (np.abs(view - here * SETTINGS.voxel_mm) <= np.array(SETTINGS.voxel_mm) / 2).all()
    constant = torch.ones(1, *s.arrangement.domain)
    torch.testing.assert_close(s.arrangement(constant), torch.ones(1, *s.arrangement.range))


@pytest.mark.parametrize("name", STACKS)
def test_what_the_model_sees_lies_where_it_was_measured(name):
    """A blob keeps its place in the world: no flip, no shift by a part of a pixel."""
    s = STACKS[name]
    i, j = np.meshgrid(*(np.arange(n) for n in s.size[:2]), indexing="ij")
    x, y = (s.affine @ np.stack([i, j, 0 * i, 0 * i + 1]).reshape(4, -1))[:2].reshape(2, *s.size[:2])
    at = x.mean() + 4, y.mean() - 3
    blob = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 3.0**2))
    parts = s.parts(torch.from_numpy(blob)[None, None])
    seen = parts[0, 0].numpy()
    # The model's columns go to the patient's left, its rows to the back.
    rows, columns = seen.shape
    dy, dx = np.ptp(y) / (y.shape[0 if not s.turned else 1] - 1), np.ptp(x) / (x.shape[1 if not s.turned else 0] - 1)
    down = y.mean() - (np.arange(rows) - (rows - 1) / 2) * dy * s.order.domain[1] / rows
    right = x.mean() - (np.arange(columns) - (columns - 1) / 2) * dx * s.order.domain[2] / columns
    assert (seen.sum(0) @ right) / seen.sum() == pytest.approx((blob * x).sum() / blob.sum(), abs=0.2)
    assert (seen.sum(1) @ down) / seen.sum() == pytest.approx((blob * y).sum() / blob.sum(), abs=0.2)
    torch.testing.assert_close(s.arrangement(parts)[0, 0].numpy(), blob, rtol=0, atol=0.04)


def test_nothing_is_resampled_unasked_or_within_the_tolerance():
    for s in (stack(11, 14, 2.1, 2.9), stack(21, 37, 1.0, 1.1, resample=False)):
        assert s.arrangement is s.order
        assert s.notes == ()
    with pytest.raises(UserError, match=r"^here.npz: voxels of 1 x 1.1 mm .* at 2 x 3 mm"):
        stack(21, 37, 1.0, 1.1, resample=False).check("here.npz", "mr")


def test_pictures_come_back_in_place_whatever_the_models_pixels():
    for s in STACKS.values():
        pictures = torch.randn(2, 1, *s.size[:2])
        volume = s.volume(pictures, None)
        assert volume.shape == s.size
        assert np.array_equal(volume.affine, s.affine)
        for part, k in enumerate(s.slices.tolist()):
            assert np.array_equal(volume.data[:, :, k], pictures[part, 0].numpy())


def test_a_picture_without_a_size_covers_the_models_view():
    for s in STACKS.values():
        size = covering_size(s.affine, SETTINGS)
        mm = np.array(s.blank.voxel_mm[:2])
        want = np.array([42, 22] if s.turned else [22, 42])
        assert (np.abs(size * mm - want) <= mm / 2 + 1e-9).all()
    assert covering_size(stack(1, 1, 2.1, 2.9).affine, SETTINGS) == (11, 14)
