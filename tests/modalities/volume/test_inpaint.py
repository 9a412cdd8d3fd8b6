"""Inpainting: stored values outside the hole are kept bit for bit, and nothing that lay in it is used."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.testing import data_path
from pydantic import ValidationError
from torch import nn

from cmmulti.conditioning import NO_CONDITION
from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.parameterization import parameterization
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from modalities.volume.harmonic import harmonic
from modalities.volume.inpaint import InpaintOptions, around, in_box, with_mean
from modalities.volume.item import Volume
from modalities.volume.modality import VolumeModality
from modalities.volume.scans import files
from modalities.volume.settings import VolumeSettings

ANATOMICAL = Path(str(data_path)) / "anatomical.nii"
BOX = (-15.0, -25.0, -5.0, 15.0, 5.0, 15.0)
SLICES = VolumeSettings(size=(40, 40))
PLANES = [
    SLICES,
    VolumeSettings(size=(40, 40), plane="coronal"),
    VolumeSettings(size=(40, 40), plane="sagittal"),
    VolumeSettings(size=(16, 16, 16), voxel_mm=(2, 2, 2), dims=3),
]


class Smooth(nn.Module):
    """Looks at its neighbours, so that anything hidden that leaked in would be seen."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.pool = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[dims](5, 1, 2)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x, time, condition=NO_CONDITION, time_next=None):
        return self.weight * self.pool(x)


def fill(settings: VolumeSettings, source: Path | Volume, seed: int = 0, **options: object) -> tuple[Volume, np.ndarray]:
    modality = VolumeModality(settings)
    model = Model(Smooth(settings.dims), parameterization("edm", sigma_data=0.5), "teacher")
    task = modality.task("inpaint", "edit")
    assignment = task.prepare(modality, source, InpaintOptions(**options), model)
    randomness = SampleRandomness([(seed, part) for part in range(assignment.shape[0])])
    x = Multistep().sample(model, assignment.start, assignment.levels(2), randomness, problem=assignment.problem).x
    return assignment.finish(x, randomness.child("finish")), assignment.mark


@pytest.mark.parametrize("settings", PLANES, ids=lambda s: f"{s.dims}D-{s.plane}")
def test_stored_integers_outside_are_kept_and_the_hole_is_filled(settings, tmp_path):
    result, hidden = fill(settings, ANATOMICAL, box=BOX)
    before = files.load(ANATOMICAL)
    np.testing.assert_array_equal(result.data[~hidden], before.data[~hidden])
    assert result.data.dtype == np.int16
    assert (result.data[hidden] != before.data[hidden]).mean() > 0.9
    saved = nib.load(files.save(result, tmp_path / "filled.nii.gz"))
    np.testing.assert_array_equal(saved.dataobj.get_unscaled()[~hidden], before.data[~hidden])
    np.testing.assert_array_equal(saved.affine, nib.load(ANATOMICAL).affine)


@pytest.mark.parametrize("settings", PLANES, ids=lambda s: f"{s.dims}D-{s.plane}")
def test_a_fill_begins_with_the_smooth_one_and_may_go_as_far_as_its_first_level(settings):
    volume = files.load(ANATOMICAL)
    hidden = in_box(volume, BOX)
    smooth = harmonic(volume, hidden).values()[hidden].astype(float)
    spread = smooth.std()

    def away(level: float) -> float:
        result, _ = fill(settings, ANATOMICAL, box=BOX, start_level=level)
        return float(np.sqrt(np.mean((result.values()[hidden] - smooth) ** 2))) / spread

    assert away(0.001) < 0.5 < 1 < away(10.0)


@pytest.mark.parametrize("settings", PLANES, ids=lambda s: f"{s.dims}D-{s.plane}")
@pytest.mark.parametrize("mm", [2.0, 3.0, 1.4])
def test_what_lay_in_the_hole_never_influences_the_fill(settings, mm):
    settings = settings.model_copy(update={"voxel_mm": (mm,) * settings.dims})
    volume = files.load(ANATOMICAL)
    first, hidden = fill(settings, volume, box=BOX, resample=True)
    data = volume.data.copy()
    data[hidden] = np.random.default_rng(0).integers(0, 32767, int(hidden.sum()), dtype=np.int16)
    second, _ = fill(settings, Volume(data, volume.affine, header=volume.header), box=BOX, resample=True)
    np.testing.assert_array_equal(first.data[hidden], second.data[hidden])
    np.testing.assert_array_equal(second.data[~hidden], data[~hidden])
    assert first.data[hidden].std() > 0


def test_scaled_unsigned_integers_are_rounded_and_clipped(tmp_path):
    rng = np.random.default_rng(0)
    volume = Volume(rng.integers(0, 255, (16, 16, 4), dtype=np.uint8), np.diag([2.0, 2, 2, 1]), slope=0.25, inter=-1.0)
    result, hidden = fill(SLICES, volume, box=(5, 5, 0, 20, 20, 6))
    np.testing.assert_array_equal(result.data[~hidden], volume.data[~hidden])
    assert (result.slope, result.inter, result.data.dtype) == (0.25, -1.0, np.uint8)


def test_a_mask_file_says_where(tmp_path):
    volume = files.load(ANATOMICAL)
    mask = np.zeros(volume.shape, np.uint8)
    mask[10:14, 12:20, 9:12] = 3
    nib.Nifti1Image(mask, volume.affine).to_filename(tmp_path / "mask.nii.gz")
    _, hidden = fill(SLICES, ANATOMICAL, mask=tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(hidden, mask > 0)
    result, both = fill(SLICES, ANATOMICAL, mask=tmp_path / "mask.nii.gz", box=BOX)
    np.testing.assert_array_equal(both, (mask > 0) | in_box(volume, BOX))
    assert result.shape == volume.shape


def test_only_slices_with_a_hole_are_sampled_and_seeds_differ():
    modality, model = VolumeModality(SLICES), Model(Smooth(2), parameterization("edm", sigma_data=0.5), "teacher")
    options = InpaintOptions(box=(-15, -25, 0, 15, 5, 3))
    assignment = modality.task("inpaint", "edit").prepare(modality, ANATOMICAL, options, model)
    assert assignment.shape == (2, 1, 48, 40)
    assert not np.array_equal(
        fill(SLICES, ANATOMICAL, seed=0, box=BOX)[0].data, fill(SLICES, ANATOMICAL, seed=1, box=BOX)[0].data
    )


def test_a_3d_model_looks_at_a_window_around_the_hole():
    hidden = np.zeros((100, 40, 20), bool)
    hidden[90:95, 10:30, 5:6] = True
    assert around(hidden, np.array([16, 16, 32])) == (slice(84, 100), slice(6, 34), slice(0, 20))
    modality, model = VolumeModality(PLANES[3]), Model(Smooth(3), parameterization("edm", sigma_data=0.5), "teacher")
    options = InpaintOptions(box=(-3, -5, 0, 3, 5, 3))
    assignment = modality.task("inpaint", "edit").prepare(modality, ANATOMICAL, options, model)
    assert assignment.shape == (1, 1, 16, 16, 16)
    result = assignment.finish(torch.zeros(assignment.shape), SampleRandomness([0]))
    assert len(set(result.data[assignment.mark].tolist())) == 1
    np.testing.assert_array_equal(result.data[~assignment.mark], files.load(ANATOMICAL).data[~assignment.mark])


@pytest.mark.parametrize("settings", [PLANES[0], PLANES[3]], ids=["2D", "3D"])
def test_a_sliver_of_the_hole_far_away_is_interpolated_on_a_coarse_grid(settings, tmp_path):
    settings = settings.model_copy(update={"voxel_mm": (5.0,) * settings.dims, "size": (8,) * settings.dims})
    volume = Volume(np.full((40, 40, 40), 500, np.int16), np.diag([2.0, 2, 2, 1]))
    mask = np.zeros(volume.shape, np.uint8)
    mask[5:12, 5:12, 5:12] = 1
    mask[33, 34, 35] = 1
    nib.Nifti1Image(mask, volume.affine).to_filename(tmp_path / "mask.nii")
    result, hidden = fill(settings, volume, mask=tmp_path / "mask.nii", resample=True)
    assert result.data[33, 34, 35] == 500
    assert (result.data[~hidden] == 500).all()
    assert result.data[5:12, 5:12, 5:12].std() > 0


def test_a_box_is_in_world_mm_whatever_the_orientation():
    turned = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.4, -0.3, 0.6) @ np.diag([1.0, -2, 3]), [1, 2, 3])
    volume = Volume(np.ones((9, 8, 7), np.int16), turned)
    world = nib.affines.apply_affine(turned, np.moveaxis(np.indices(volume.shape), 0, -1))
    box = (-4.0, -9.0, 0.0, 6.0, 4.0, 12.0)
    wanted = ((world >= box[:3]) & (world <= box[3:])).all(-1)
    assert 0 < wanted.sum() < wanted.size
    np.testing.assert_array_equal(in_box(volume, box), wanted)
    np.testing.assert_array_equal(in_box(volume, (*box[3:], *box[:3])), wanted)


def test_mistakes_are_named(tmp_path):
    volume = files.load(ANATOMICAL)
    empty = tmp_path / "empty.nii"
    nib.Nifti1Image(np.zeros(volume.shape, np.uint8), volume.affine).to_filename(empty)
    small = tmp_path / "small.nii"
    nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), volume.affine).to_filename(small)
    moved = tmp_path / "moved.nii"
    nib.Nifti1Image(
        np.ones(volume.shape, np.uint8), volume.affine @ nib.affines.from_matvec(np.eye(3), [1, 0, 0])
    ).to_filename(moved)
    for options, words in [
        ({"mask": empty}, "0 everywhere"),
        ({"mask": small}, r"mask of \(5, 5, 5\) voxels"),
        ({"mask": moved}, "2 mm off"),
        ({"mask": tmp_path / "none.nii"}, "no such file"),
        ({"box": (900, 900, 900, 950, 950, 950)}, "reaches from"),
        ({"box": (-999, -999, -999, 999, 999, 999)}, "every voxel"),
    ]:
        with pytest.raises(UserError, match=words):
            fill(SLICES, ANATOMICAL, **options)
    with pytest.raises(UserError, match="--resample"):
        fill(SLICES.model_copy(update={"voxel_mm": (1.0, 1.0)}), ANATOMICAL, box=BOX)
    with pytest.raises(ValidationError, match="neither"):
        InpaintOptions()


def test_the_smooth_baseline_solves_laplaces_equation_with_the_rest_untouched():
    i, j, k = np.indices((12, 10, 8)).astype(np.float32)
    field = 3 * i - 2 * j + k + 0.5 * (i * 2) ** 2 - 0.5 * (j * 3) ** 2  # harmonic for voxels of 2 x 3 x 5 mm
    volume = Volume(field, np.diag([2.0, 3, 5, 1]))
    hidden = np.zeros(field.shape, bool)
    hidden[3:9, 2:8, 2:6] = True
    garbage = volume.with_values(np.where(hidden, 1e6, field))
    filled = harmonic(garbage, hidden)
    np.testing.assert_allclose(filled.data, field, atol=0.2)
    np.testing.assert_array_equal(filled.data[~hidden], field[~hidden])
    all_but_one = np.ones(field.shape, bool)
    all_but_one[0, 0, 0] = False
    np.testing.assert_allclose(harmonic(volume, all_but_one).data, field[0, 0, 0], atol=0.2)


def test_the_mean_baseline_does_not_look_into_the_hole():
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    hidden = data == 59
    filled = with_mean(Volume(np.where(hidden, np.int16(9999), data), np.eye(4)), hidden)
    assert filled.data[hidden] == 29
    np.testing.assert_array_equal(filled.data[~hidden], data[~hidden])


def test_padding_of_ct_beside_a_hole_is_air():
    """A scanner's -3024 around the picture is no tissue darker than air: neither start nor baselines see it."""
    modality = VolumeModality(VolumeSettings(kind="ct", size=(16, 16)))
    model = Model(Smooth(2), parameterization("edm", sigma_data=0.5), "teacher")
    found = []
    for outside in (-1000, -3024):
        data = np.full((12, 12, 2), outside, np.int16)
        data[6:] = 40
        scan, options = Volume(data, np.diag([2.0, 2, 2, 1])), InpaintOptions(box=(4, 4, -1, 18, 18, 1))
        assignment = modality.task("inpaint", "edit").prepare(modality, scan, options, model)
        filled = [make().values()[assignment.mark] for make in assignment.baselines.values()]
        found.append((assignment.start.clean.numpy(), *filled))
    for air, padding in zip(*found, strict=True):
        np.testing.assert_array_equal(air, padding)


def test_figures_of_a_hole_look_at_the_hole_alone():
    result, hidden = fill(SLICES, ANATOMICAL, box=BOX)
    truth, modality = files.load(ANATOMICAL), VolumeModality(SLICES)
    inside = modality.metrics(result, truth, hidden)
    error = (result.values() - truth.values())[hidden].astype(np.float64)
    assert inside["mae"] == pytest.approx(np.abs(error).mean())
    assert inside["nmse"] == pytest.approx((error**2).sum() / (truth.values()[hidden].astype(float) ** 2).sum())
    assert inside["psnr"] < modality.metrics(result, truth)["psnr"]
