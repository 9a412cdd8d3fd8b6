"""fastMRI's definitions, against golden values worked out by hand and by its formulas."""

import numpy as np
import pytest

from cmmulti.errors import UserError
from modalities.volume.item import Volume
from modalities.volume.metrics import MU_WATER, attenuation, ct_metrics, mr_metrics
from modalities.volume.modality import VolumeModality
from modalities.volume.settings import VolumeSettings


@pytest.fixture
def golden():
    i = np.arange(3072)
    truth = (0.5 + 0.5 * np.sin(i / 37)).reshape(3, 32, 32) * np.array([1, 2, 3]).reshape(3, 1, 1)
    return truth, truth + 0.05 * np.cos(i / 5).reshape(3, 32, 32)


def test_golden_values(golden):
    figures = mr_metrics(*golden)
    assert figures["nmse"] == pytest.approx(7.21984e-4, rel=1e-5)
    assert figures["psnr"] == pytest.approx(38.57344, abs=1e-5)
    assert figures["ssim"] == pytest.approx(0.99864897, abs=1e-8)


def test_the_range_is_the_volumes_not_the_slices(golden):
    truth, result = golden
    per_slice = [mr_metrics(t[None], r[None])["psnr"] for t, r in zip(truth, result, strict=True)]
    assert np.mean(per_slice) == pytest.approx(34.2187, abs=1e-4)


def test_figures_do_not_depend_on_the_unit(golden):
    truth, result = golden
    for name, value in mr_metrics(1000 * truth, 1000 * result).items():
        assert value == pytest.approx(mr_metrics(truth, result)[name])


def test_ct_is_judged_on_the_attenuation():
    hu = np.linspace(-1500, 400, 512).reshape(2, 16, 16)
    result = hu + 20
    figures = ct_metrics(hu, result)
    assert figures["mae_hu"] == pytest.approx(20)
    seen = hu > -1000
    error = np.where(seen, 20, np.maximum(result + 1000, 0)) * MU_WATER / 1000
    assert figures["nmse"] == pytest.approx(np.sum(error**2) / np.sum(attenuation(hu) ** 2))


def test_a_reference_that_cannot_be_laid_on_the_result_is_refused():
    modality = VolumeModality(VolumeSettings(size=(16, 16)))
    data = np.random.default_rng(0).random((9, 10, 2), np.float32)
    placed = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -40], [0, 0, 2, 5], [0, 0, 0, 1]])
    truth = Volume(data, placed)
    assert modality.metrics(truth, truth)["nmse"] == 0
    # Stored the other way round, but in the same place.
    turned = placed @ np.array([[-1.0, 0, 0, 8], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert modality.metrics(Volume(data[::-1], turned), truth)["nmse"] == 0
    # Up to half a voxel of 2 mm and 1 % of its size are rounding.
    for near in (placed + np.eye(4, k=3), placed @ np.diag([1.009, 1, 1, 1])):
        assert modality.metrics(Volume(data, near), truth)["nmse"] == 0
    shifted, larger, tilted = placed.copy(), placed @ np.diag([3.0, 3, 3, 1]), placed.copy()
    shifted[0, 3] += 30
    tilted[1, 0] = 0.1
    for affine, words in (
        (shifted, "30 mm apart"),
        (larger, "voxels of 2 x 2 x 2 mm along LAS, the result with 6 x 6 x 6"),
    ):
        with pytest.raises(UserError, match=words):
            modality.metrics(Volume(data, affine), truth)
    for affine in (tilted, np.diag([2.0, 2, 2, 1])):
        with pytest.raises(UserError, match="expected the same grid"):
            modality.metrics(Volume(data, affine), truth)
    # A result of a measurement without an affine lies nowhere; the order of storage has to do.
    assert modality.metrics(Volume(data, shifted, placed=False), truth)["nmse"] == 0
    with pytest.raises(UserError, match=r"stored along LAS, the result along RAS, and one of them states no affine"):
        modality.metrics(Volume(data, np.diag([2.0, 2, 2, 1]), placed=False), truth)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flip", [1, -1])
def test_a_hole_is_compared_in_place_whatever_order_the_reference_is_stored_in(axes, flip):
    modality = VolumeModality(VolumeSettings(size=(16, 16)))
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 2, 2, 1])
    truth, mark = Volume(rng.random((9, 9, 9), np.float32), affine), rng.random((9, 9, 9)) < 0.2
    result = Volume(truth.data + 0.5 * mark, affine)
    turned = affine[:, [*axes, 3]] * np.array([flip, 1, 1, 1])
    turned[:, 3] += (flip < 0) * 8 * affine[:, axes[0]]
    stored = Volume(np.ascontiguousarray(truth.data.transpose(axes)[::flip]), turned)
    figures = modality.metrics(result, stored, mark)
    assert figures == modality.metrics(result, truth, mark)
    assert figures["mae"] == pytest.approx(0.5)
    with pytest.raises(UserError, match="expected the same grid"):
        modality.metrics(result, Volume(truth.data[:8], affine), mark)


@pytest.mark.parametrize(("kind", "air"), [("mr", 0), ("ct", -1000), ("ct", -3024)])
def test_a_reference_of_nothing_but_air_is_refused(kind, air):
    modality = VolumeModality(VolumeSettings(kind=kind, size=(16, 16)))
    nothing = Volume(np.full((8, 8, 2), air, np.int16), np.diag([2.0, 2, 2, 1]))
    with pytest.raises(UserError, match="nothing but air"):
        modality.metrics(Volume(nothing.data + 10, nothing.affine), nothing)


def test_without_tissue_there_is_no_error_in_tissue():
    air = np.full((1, 8, 8), -990.0)
    assert "mae_hu" not in ct_metrics(air, air + 1)


def test_attenuation_of_water_air_and_less():
    assert attenuation(np.array([0.0, -1000, -3024])).tolist() == [MU_WATER, 0, 0]
