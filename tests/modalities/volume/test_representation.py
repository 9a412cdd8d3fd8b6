"""Volume <-> model tensor: exact orientation, air as padding, one intensity rule, refusals with numbers."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.testing import data_path
from pydantic import ValidationError

from cmmulti.errors import UserError
from modalities.volume import representation
from modalities.volume.geometry import AXES, Layout
from modalities.volume.item import Volume
from modalities.volume.modality import VolumeModality
from modalities.volume.resampling import Resampling
from modalities.volume.settings import VolumeSettings

ORIENTATIONS = [
    np.array(list(zip(axes, flips, strict=True)))
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
SETTINGS = [
    VolumeSettings(size=(8, 8), voxel_mm=(2, 2)),
    VolumeSettings(size=(16, 8), voxel_mm=(2, 2), plane="coronal"),
    VolumeSettings(size=(4, 8), voxel_mm=(2, 2), plane="sagittal"),
    VolumeSettings(size=(8, 16, 8), voxel_mm=(2, 2, 2), dims=3),
]


def scan(seed: int = 0, shape: tuple[int, ...] = (5, 6, 7), mm: float = 2.0) -> Volume:
    data = np.random.default_rng(seed).integers(0, 1000, shape, dtype=np.int16)
    return Volume(data, np.diag([mm, mm, mm, 1.0]), slope=0.5)


def oriented(volume: Volume, ornt: np.ndarray) -> Volume:
    """The same scan stored in other axes."""
    affine = volume.affine @ nib.orientations.inv_ornt_aff(ornt, volume.shape)
    return Volume(nib.orientations.apply_orientation(volume.data, ornt), affine, volume.slope, volume.inter)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.dims}D-{s.plane}")
def test_every_stored_order_gives_the_same_tensor_and_comes_back_exactly(settings):
    modality, first = VolumeModality(settings), scan()
    wanted = modality.encode(first)
    for ornt in ORIENTATIONS:
        volume = oriented(first, ornt)
        x = modality.encode(volume)
        assert torch.equal(x, wanted)
        back = modality.decode(x, volume)
        np.testing.assert_allclose(back.values(), volume.values(), atol=1e-3)
        np.testing.assert_array_equal(back.affine, volume.affine)


@pytest.mark.parametrize("plane", AXES)
def test_rows_and_columns_point_where_the_plane_says(plane):
    layout = Layout(scan().affine, plane)
    affine = layout.model_affine((5, 6, 7))
    assert nib.aff2axcodes(affine) == AXES[plane]
    stored = np.arange(210).reshape(5, 6, 7)
    ordered = layout.apply(stored)
    index = np.array([1, 2, 3])
    world = affine @ [*index, 1]
    i, j, k = np.rint(np.linalg.solve(scan().affine, world)[:3]).astype(int)
    assert ordered[tuple(index)] == stored[i, j, k]
    np.testing.assert_array_equal(layout.undo(ordered), stored)


def test_an_oblique_scan_goes_to_the_nearest_axes_without_resampling():
    turned = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, -0.25) @ np.diag([2, -2, 2]), [5, 6, 7])
    volume = Volume(scan().data, turned)
    modality = VolumeModality(SETTINGS[0])
    x = modality.encode(volume)
    assert set(np.unique(modality.decode(x, volume).values().round())) <= set(np.unique(volume.data.astype(float)))
    np.testing.assert_allclose(modality.decode(x, volume).values(), volume.values(), atol=1e-3)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.dims}D-{s.plane}")
def test_affine_says_what_encode_did_and_the_padding_is_air(settings):
    modality, volume = VolumeModality(settings), scan()
    x, affine = modality.encode(volume), modality.affine(volume)
    inside = affine.inside(x.shape[2:])
    assert (x[~inside.expand_as(x)] == representation.AIR).all()
    values = representation.to_parts(volume.values(), volume, settings)
    torch.testing.assert_close(affine.to_item(x), values, atol=1e-3, rtol=1e-5)


def test_mr_air_is_minus_one_the_percentile_is_one_and_gain_changes_nothing():
    modality, volume = VolumeModality(SETTINGS[0]), scan(shape=(8, 8, 3))
    x = modality.encode(volume)
    level = np.percentile(volume.values()[volume.data != 0], 99.5)
    at = representation.to_parts(volume.values(), volume, modality.settings)
    torch.testing.assert_close(x, 2 * at / level - 1, atol=1e-5, rtol=1e-5)
    louder = Volume(volume.data, volume.affine, slope=37.0)
    torch.testing.assert_close(modality.encode(louder), x)


def test_ct_is_hounsfield_over_1000_and_padding_below_air_is_air():
    modality = VolumeModality(VolumeSettings(kind="ct", size=(8, 8), voxel_mm=(2, 2)))
    hu = np.full((8, 8, 1), -3024, np.int16)
    hu[:, :4] = 40
    hu[0, 0] = 1500
    x = modality.encode(Volume(hu, np.diag([-2.0, -2, 5, 1])))
    assert sorted(set(x.flatten().tolist())) == pytest.approx([-1.0, 0.04, 1.5])
    assert modality.valid_range == pytest.approx((-1, 3.071))


def test_generated_scans_have_the_models_spacing_and_lie_in_ras():
    settings = VolumeSettings(size=(6, 4), voxel_mm=(3.0, 2.0), plane="sagittal")
    made = VolumeModality(settings).decode(torch.linspace(-2, 2, 48).view(2, 1, 6, 4))
    # Sagittal: slices along x, rows down the z axis, columns back along y.
    assert made.shape == (2, 4, 6)
    assert made.voxel_mm == pytest.approx([2, 2, 3])
    assert nib.aff2axcodes(made.affine) == ("R", "A", "S")
    assert made.values().min() == 0
    assert made.values().max() == pytest.approx(1500)
    assert made.values()[0, 3, 5] == 0  # the tensor's first number: air, at the front and top


def test_spacing_is_refused_with_both_numbers_beyond_15_percent():
    modality = VolumeModality(SETTINGS[0])
    modality.encode(scan(mm=2.29))
    with pytest.raises(UserError, match=r"2\.31 x 2\.31 mm.*2 x 2 mm.*15 %.*--resample"):
        modality.encode(scan(mm=2.31))
    thick = Volume(scan().data, np.diag([2.0, 2, 9, 1]))
    modality.encode(thick)
    with pytest.raises(UserError, match="9 x 2 x 2 mm"):
        VolumeModality(SETTINGS[3]).encode(thick)


def test_what_is_no_mr_magnitude_or_of_another_kind_is_refused():
    modality = VolumeModality(SETTINGS[0])
    with pytest.raises(UserError, match="every voxel"):
        modality.encode(Volume(np.zeros((5, 6, 7), np.int16), scan().affine))
    centred = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    with pytest.raises(UserError, match="magnitudes"):
        modality.encode(Volume(centred, scan().affine))
    with pytest.raises(UserError, match="is CT, expected MR"):
        modality.encode(Volume(scan().data, scan().affine, kind="ct"))


def test_settings_that_contradict_each_other_are_refused():
    for wrong in ({"size": (8, 8, 8)}, {"dims": 3}, {"window": (5.0, -5.0)}, {"voxel_mm": (0.0, 1.0)}):
        with pytest.raises(ValidationError):
            VolumeSettings(**wrong)
    assert VolumeSettings().field_of_view_mm == (240.0, 192.0)


def test_a_scan_larger_than_the_model_keeps_its_size():
    volume = scan(shape=(21, 9, 2))
    x = VolumeModality(SETTINGS[0]).encode(volume)
    assert x.shape == (2, 1, 16, 24)
    np.testing.assert_allclose(VolumeModality(SETTINGS[0]).decode(x, volume).values(), volume.values(), atol=1e-3)


def test_a_packaged_head_round_trips():
    from modalities.volume.scans import files

    volume = files.load(Path(str(data_path)) / "anatomical.nii")
    modality = VolumeModality(VolumeSettings(size=(40, 40), plane="coronal"))
    back = modality.decode(modality.encode(volume), volume)
    # Values below air, which magnitudes do not have, come back as air.
    np.testing.assert_allclose(back.values(), volume.values().clip(0), atol=0.01)


@pytest.mark.parametrize("mm", [1.0, 2.0, 3.1])
def test_resampling_keeps_a_linear_field_and_its_place_in_the_world(mm):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (20, 24, 18)), indexing="ij"), -1)
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.2, 0.1) @ np.diag([-1.5, 2.0, 2.5]), [9, 8, 7])
    world = nib.affines.apply_affine(affine, grid)
    volume = Volume((world @ [1.0, 2.0, -1.0] + 200).astype(np.float32), affine)
    settings = VolumeSettings(size=(16, 16, 16), voxel_mm=(mm, mm, mm), dims=3)
    there = Resampling.to_model(volume, settings)
    new, known = there.forward()
    assert known.all()
    assert new.voxel_mm == pytest.approx([mm] * 3)
    places = nib.affines.apply_affine(new.affine, np.moveaxis(np.indices(new.shape), 0, -1))
    inner = (slice(5, -5),) * 3 if mm < 2 else (slice(3, -3),) * 3
    np.testing.assert_allclose(new.data[inner], (places @ [1.0, 2.0, -1.0] + 200)[inner], atol=0.05)
    where = np.zeros(volume.shape, bool)
    where[8:12, 9:14, 7:10] = True
    back = there.backward(new.data, where)
    np.testing.assert_allclose(back[where], volume.data[where], atol=0.05)
    assert (back[~where] == 0).all()
