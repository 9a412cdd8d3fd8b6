"""Several answers to one task: their mean and spread, in files and on the page."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.folder import Piece
from cmmulti.report import read_results
from modalities.volume.item import Volume
from modalities.volume.modality import VolumeModality
from modalities.volume.scans import nifti
from modalities.volume.scans.files import load
from modalities.volume.settings import VolumeSettings
from modalities.volume.spread import spread


def answers(n: int, offset: float = 0.0) -> tuple[np.ndarray, list[Volume]]:
    values = np.random.default_rng(0).normal(offset, 1, (n, 5, 6, 4)).astype(np.float32)
    return values, [Volume(v, np.diag([1.0, 2, 3, 1])) for v in values]


@pytest.mark.parametrize(("n", "offset"), [(2, 0.0), (7, 1000.0)])
def test_mean_and_spread_are_numpys(n: int, offset: float) -> None:
    values, volumes = answers(n, offset)
    found = spread(volumes)
    np.testing.assert_allclose(found["mean"].data, values.mean(0, dtype=np.float64), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["spread"].data, values.std(0, ddof=1, dtype=np.float64), rtol=1e-5)
    assert all(volume.data.dtype == np.float32 for volume in found.values())
    np.testing.assert_array_equal(found["spread"].affine, volumes[0].affine)


def test_stored_integers_are_read_as_their_values() -> None:
    stored = [Volume(np.full((2, 2, 2), v, np.int16), np.eye(4), slope=2.0, inter=-1024.0) for v in (100, 102)]
    found = spread(stored)
    assert float(found["mean"].values()[0, 0, 0]) == 2 * 101 - 1024
    assert float(found["spread"].values()[0, 0, 0]) == pytest.approx(2 * 2**0.5)


def test_the_spread_does_not_keep_the_window_that_a_scan_is_shown_in(tmp_path: Path) -> None:
    """A viewer would show a few units in a window of a thousand: black."""
    image = nib.Nifti1Image(np.full((3, 4, 5), 700, np.int16), np.diag([2.0, 2, 2, 1]))
    image.header["cal_min"], image.header["cal_max"] = 100, 1000
    image.to_filename(tmp_path / "scan.nii")
    scan = load(tmp_path / "scan.nii")
    found = spread([scan.with_values(scan.values() + i) for i in (0, 3)])
    windows = {name: nifti.image(volume).header for name, volume in found.items()}
    assert (windows["mean"]["cal_min"], windows["mean"]["cal_max"]) == (100, 1000)
    assert (windows["spread"]["cal_min"], windows["spread"]["cal_max"]) == (0, 0)
    assert scan.header["cal_max"] == 1000


def test_both_are_shown_with_their_scales() -> None:
    modality = VolumeModality(VolumeSettings(size=(6, 5), voxel_mm=(2.0, 1.0)))
    items, media = modality.summary(answers(3)[1])
    assert list(items) == ["mean", "spread"]
    assert media[0].caption.startswith("mean · black 0, white")
    limit = np.percentile(items["spread"].data, 99.5)
    assert f"black 0, brightest {limit:.4g} arbitrary units or more" in media[1].caption


def test_the_spread_in_a_hole_is_shown_where_the_hole_is() -> None:
    modality = VolumeModality(VolumeSettings(size=(12, 12), voxel_mm=(2.0, 2.0)))
    values = np.full((3, 12, 12, 12), 100, np.float32)
    values[:, 8:11, 8:11, 8:11] += np.arange(3, dtype=np.float32)[:, None, None, None]
    _, media = modality.summary([Volume(v, np.diag([2.0, 2, 2, 1])) for v in values])
    shown = np.asarray(Image.open(io.BytesIO(media[1].png)))
    # The brightest of the scale, in each of the three planes.
    bright = (shown[..., 0] > 240) & (shown[..., 1] > 240)
    assert all(third.any() for third in np.array_split(bright, 3, axis=1))


def test_several_answers_leave_both_in_the_folder_and_a_single_one_takes_them_away(tmp_path: Path) -> None:
    """An untrained network fills a hole: each seed otherwise."""
    modality = VolumeModality(VolumeSettings(size=(6, 5), voxel_mm=(2.0, 1.0)))
    network = {"dims": 2, "in_channels": 1, "channels": [8], "blocks": 1}
    config = PipelineConfig(
        modality=Piece(name="volume", settings=modality.settings.model_dump(mode="json")),
        network=Piece(name="unet", settings=network),
        parameterization=Piece(name="edm", settings={"sigma_data": 0.5}),
        role="consistency",
    )
    pipe = Pipeline(config.build_model().eval(), modality, config)
    scan = Volume(np.random.default_rng(1).uniform(10, 20, (5, 6, 2)).astype(np.float32), np.diag([1.0, 2, 3, 1]))
    out, options = tmp_path / "out", {"box": [1, 1, 0, 4, 4, 2]}
    outcome = pipe.edit(scan, "inpaint", options, steps=1, samples=5, reference=scan)
    outcome.save(out)
    results = read_results(out)
    assert results.together == ["mean.nii.gz", "spread.nii.gz"]
    assert len(results.outputs) == 5
    mean = pipe.modality.load(out / "mean.nii.gz")
    assert results.baselines["mean of 5 answers"] == pytest.approx(pipe.modality.metrics(mean, scan, outcome.mark))
    assert results.baselines["mean of 5 answers"]["psnr"] > results.metrics["psnr"]
    assert results.sections[0].title == "5 answers together"
    assert results.sections[-1].text == "1 more is in the folder."
    deviation = pipe.modality.load(out / "spread.nii.gz").values()
    assert deviation[2, 2, 0] > 0
    assert (deviation[0] == 0).all()
    pipe.edit(scan, "inpaint", options, steps=1).save(out, overwrite=True)
    assert not (out / "mean.nii.gz").exists()
