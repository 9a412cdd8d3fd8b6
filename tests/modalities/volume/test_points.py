"""K-space of points (ky, kx), and measurements that say nothing of their axes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mri_toys import AFFINE, head, prepared, relative, simulated_kspace

from cmmulti.conditioning import NO_CONDITION
from cmmulti.errors import UserError
from cmmulti.pipeline.solving import solved
from cmmulti.samplers.multistep import Multistep
from modalities.volume.mri import estimates
from modalities.volume.mri.kspace import load_kspace, save_kspace
from modalities.volume.mri.masks import centre_box
from modalities.volume.mri.measured import MeasuredMRI
from modalities.volume.mri.phase import held_out


def solve(assignment, model):
    return solved(model, Multistep(), assignment, 0, assignment.levels(2), NO_CONDITION, None)[0]


def of_points(share=0.5, noise=0.01, coils=1):
    """A quarter of the points in the middle, and of the others a share at random."""
    item = simulated_kspace(1, noise, coils=coils)
    mask = np.random.default_rng(1).random((36, 40)) < share
    mask[14:22, 16:24] = True
    return replace(item, kspace=np.where(mask, item.kspace, 0), mask=mask)


@pytest.mark.parametrize("coils", [1, 4])
def test_points_make_an_image(modality, model, coils):
    item = of_points(coils=coils)
    assignment = prepared(modality, model, item)
    zero_filled = relative(assignment.baselines["zero-filled"](), head())
    assert relative(assignment.baselines["tv"](), head()) < 0.4 * zero_filled
    assert relative(solve(assignment, model), head()) < 0.7 * zero_filled


def test_points_of_whole_columns_are_columns(modality, model, tmp_path):
    item = simulated_kspace(2, 0.01)
    points = replace(item, mask=np.tile(item.mask, (36, 1)))
    back = load_kspace(save_kspace(points, tmp_path / "k.npz"))
    assert np.array_equal(back.mask, item.mask)
    sampled = MeasuredMRI.of(item, modality.settings, None, "toy").sampled
    dense = replace(sampled, y=torch.from_numpy(item.kspace), mask=torch.from_numpy(points.mask))
    torch.testing.assert_close(dense.tv(), sampled.tv(), rtol=1e-3, atol=0.5)


def test_a_file_of_points_comes_back_as_it_is(tmp_path):
    item = of_points()
    assert np.array_equal(load_kspace(save_kspace(item, tmp_path / "k.npz")).mask, item.mask)
    blank = replace(item, kspace=item.kspace.copy())
    blank.kspace[..., 3, :20] = 0
    back = load_kspace(save_kspace(blank, tmp_path / "blank.npz"))
    assert not back.mask[3, :20].any()
    assert f"{item.mask[3, :20].sum()} of {item.mask.sum()} points that the mask says" in back.notes[0]
    blank.mask[18, 20] = False
    with pytest.raises(UserError, match="point 18, 20, the zero frequency"):
        load_kspace(save_kspace(blank, tmp_path / "hole.npz"))


def test_noise_of_points_is_bounded_by_the_outermost():
    std = 0.02 * np.percentile(head().values(), 99)
    assert std < estimates.estimated_noise(of_points(noise=0.02)) < 2 * std
    assert estimates.estimated_noise(of_points(noise=0.2)) == pytest.approx(10 * std, rel=0.15)


def test_the_centre_of_points_is_a_full_rectangle():
    mask = np.zeros((20, 30), bool)
    mask[8:13, 10:20] = True
    assert centre_box(mask) == (slice(8, 13), slice(10, 20))
    mask[8, 10] = False
    assert centre_box(mask) == (slice(8, 13), slice(11, 20))
    assert centre_box(np.ones((5, 7), bool)) == (slice(0, 5), slice(0, 7))


def test_a_quarter_of_the_outer_points_is_held_out():
    mask = of_points().mask
    out = held_out(mask)
    assert not (out & ~mask).any()
    assert not out[16:20, 18:22].any()
    assert out.sum() == pytest.approx(mask.sum() / 4, rel=0.1)
    assert out[:18].sum() == pytest.approx(out[18:].sum(), rel=0.3)


def test_told_where_its_axes_count_to_a_measurement_without_an_affine_is_as_one_with_it(modality, model, tmp_path):
    item = simulated_kspace(2, 0.01)
    turned = replace(item, affine=np.array([[0, -2.0, 0, 0], [-2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]))
    lost = replace(item, affine=np.diag([2.0, 2, 2, 1]), stated="voxel_mm", notes=())
    want, got = prepared(modality, model, turned), prepared(modality, model, lost, orientation="pls")
    assert np.array_equal(solve(got, model).data, solve(want, model).data)
    assert np.array_equal(solve(got, model).affine[:3, :3], turned.affine[:3, :3])
    assert prepared(modality, model, lost).shape == got.shape
    np.savez(tmp_path / "k.npz", kspace=item.kspace, mask=item.mask, voxel_mm=2)
    notes = prepared(modality, model, tmp_path / "k.npz", orientation="PLS").notes
    assert any("no affine: its rows, columns and slices count to PLS" in note for note in notes)
    assert not any("says how it lies" in note for note in notes)
    assert any("--orientation says how it lies" in n for n in prepared(modality, model, tmp_path / "k.npz").notes)


@pytest.mark.parametrize("letters", ["", "PL", "PPS", "XYZ", "PLSS", "RLS"])
def test_what_is_no_orientation_is_refused(modality, model, letters):
    lost = replace(simulated_kspace(), affine=np.diag([2.0, 2, 2, 1]), stated="voxel_mm")
    with pytest.raises(UserError, match="orientation: expected where rows"):
        prepared(modality, model, lost, orientation=letters)


@pytest.mark.parametrize("source", [simulated_kspace(), head(affine=AFFINE)])
def test_an_orientation_beside_an_affine_is_refused(modality, model, source):
    simulate = not hasattr(source, "kspace")
    with pytest.raises(UserError, match=r"states its affine.* leave out --orientation"):
        prepared(modality, model, source, orientation="PLS", simulate=simulate)
