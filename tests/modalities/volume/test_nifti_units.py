"""NIfTI in metres and microns: millimetres inside, the file's own unit outside."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmmulti.errors import UserError
from modalities.volume import representation
from modalities.volume.resampling import Resampling
from modalities.volume.scans import files
from modalities.volume.settings import VolumeSettings

UNITS = [("meter", 0.002, 0.03), ("micron", 2000.0, 30000.0), ("unknown", 2.0, 30.0), ("mm", 2.0, 30.0)]


def written_in(unit: str, voxel: float, origin: float, path: Path) -> Path:
    """Voxels of 2 x 2 x 4 mm with their first at 30 mm, in a unit of length."""
    affine = nib.affines.from_matvec(np.diag([voxel, voxel, 2 * voxel]), [origin, 0, -origin])
    image = nib.Nifti1Image(np.arange(1, 337, dtype=np.int16).reshape(6, 7, 8), affine)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units(unit, "sec")
    image.to_filename(path)
    return path


@pytest.mark.parametrize(("unit", "voxel", "origin"), UNITS)
def test_any_unit_of_length_is_read_as_mm_and_written_back_as_it_came(tmp_path, unit, voxel, origin):
    source = written_in(unit, voxel, origin, tmp_path / "source.nii")
    volume = files.load(source)
    np.testing.assert_allclose(volume.voxel_mm, [2, 2, 4], rtol=1e-6)
    representation.check_spacing(volume, VolumeSettings(size=(8, 8), voxel_mm=(2.0, 2.0)))
    np.testing.assert_allclose(volume.affine[:3, 3], [30, 0, -30], rtol=1e-6)
    assert volume.affine[3].tolist() == [0, 0, 0, 1]
    assert files.save(volume, tmp_path / "saved.nii").read_bytes() == source.read_bytes()
    values = volume.with_values(volume.values() + 1)
    saved, came = (nib.load(p).header for p in (files.save(values, tmp_path / "values.nii"), source))
    for name in ("xyzt_units", "pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "qform_code"):
        assert saved[name].tobytes() == came[name].tobytes(), name


@pytest.mark.parametrize(("unit", "voxel", "origin"), UNITS)
def test_a_part_and_a_resampled_scan_keep_the_unit_of_their_source(tmp_path, unit, voxel, origin):
    volume = files.load(written_in(unit, voxel, origin, tmp_path / "source.nii"))
    part = volume.part((slice(1, 6), slice(0, 7), slice(2, 8)))
    coarser, _ = Resampling.to_model(volume, VolumeSettings(size=(8, 8), voxel_mm=(4.0, 4.0))).forward()
    for name, made, size in (("part", part, [1, 1, 2]), ("coarser", coarser, [2, 2, 2])):
        file = files.save(made, tmp_path / f"{name}.nii")
        assert nib.load(file).header.get_xyzt_units() == (unit, "sec")
        np.testing.assert_allclose(nib.load(file).header.get_zooms(), voxel * np.array(size), rtol=1e-5)
        np.testing.assert_allclose(files.load(file).affine, made.affine, rtol=1e-5, atol=1e-5)


def test_a_mask_in_another_unit_of_length_lies_on_its_scan(tmp_path):
    scan, mask = (written_in(*case, tmp_path / f"{case[0]}.nii") for case in (UNITS[3], UNITS[0]))
    assert files.load_mask(mask, files.load(scan)).all()


def test_a_scan_whose_unit_makes_no_sense_is_refused_with_the_unit(tmp_path):
    with pytest.raises(UserError, match=r"x\.nii: no usable geometry.*0\.001 to 1000 mm.*the header's unit is metres"):
        files.load(written_in("meter", 2.0, 30.0, tmp_path / "x.nii"))
