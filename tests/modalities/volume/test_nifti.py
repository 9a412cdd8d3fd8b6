"""NIfTI: nothing lost, nothing believed that the file does not hold."""

import gzip
import os
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.testing import data_path

from cmmulti.errors import UserError
from modalities.volume.geometry import Layout
from modalities.volume.item import Volume
from modalities.volume.scans import files, nifti

PACKAGED = Path(str(data_path))


def write(path: Path, data: np.ndarray, affine: np.ndarray | None = None, **fields: object) -> Path:
    image = nib.Nifti1Image(data, np.diag([2.0, 2, 3, 1]) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


def test_a_packaged_scan_comes_back_byte_for_byte(tmp_path):
    volume = files.load(PACKAGED / "anatomical.nii")
    assert volume.shape == (33, 41, 25)
    assert volume.data.dtype == np.int16
    again = files.save(volume, tmp_path / "again.nii")
    assert again.read_bytes() == (PACKAGED / "anatomical.nii").read_bytes()


def test_stored_integers_scale_codes_units_and_notes_survive(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.integers(-30000, 30000, (5, 4, 3), dtype=np.int16)
    image = nib.Nifti1Image(data, np.eye(4))
    turned = nib.eulerangles.euler2mat(0.3, -0.2, 0.5) @ np.diag([1.1, -0.9, 2.5])
    affine = nib.affines.from_matvec(turned, [10, -20, 30])
    image.set_sform(affine, code=4)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2.0, -7.5)
    image.header["descrip"] = b"as it came"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a note of sixteen or more bytes"))
    source = tmp_path / "source.nii"
    image.to_filename(source)
    saved = files.save(files.load(source), tmp_path / "saved.nii.gz")
    a, b = nib.load(source), nib.load(saved)
    np.testing.assert_array_equal(a.dataobj.get_unscaled(), b.dataobj.get_unscaled())
    assert (b.dataobj.slope, b.dataobj.inter) == (2.0, -7.5)
    assert b.get_data_dtype() == np.int16
    for name in ("qform_code", "sform_code", "xyzt_units", "descrip", "pixdim", "srow_x", "quatern_b"):
        np.testing.assert_array_equal(a.header[name], b.header[name])
    assert b.header.extensions[0].get_content() == b"a note of sixteen or more bytes"
    np.testing.assert_allclose(files.load(source).values(), a.get_fdata(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i2", "<u2", ">i2", ">f4", "f8", "i4", "i8"])
def test_types_and_byte_orders(tmp_path, dtype):
    data = np.arange(60).reshape(5, 4, 3).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    path = tmp_path / "x.nii"
    nib.Nifti1Image(data, np.eye(4), header, dtype=np.dtype(dtype).newbyteorder("=")).to_filename(path)
    volume = files.load(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.dtype == np.dtype(dtype).newbyteorder("=")
    again = files.save(volume, tmp_path / "y.nii")
    assert again.read_bytes() == path.read_bytes()


def test_nifti_2_and_trailing_axes_of_one(tmp_path):
    data = np.arange(24, dtype=np.float32).reshape(4, 3, 2, 1)
    nib.Nifti2Image(data, np.eye(4)).to_filename(tmp_path / "two.nii")
    volume = files.load(tmp_path / "two.nii")
    assert volume.shape == (4, 3, 2)
    again = nib.load(files.save(volume, tmp_path / "again.nii"))
    assert isinstance(again, nib.Nifti2Image)
    assert again.shape == (4, 3, 2, 1)


def test_float_results_are_not_squeezed_into_an_integer_header(tmp_path):
    source = files.load(write(tmp_path / "int.nii", np.arange(60, dtype=np.int16).reshape(5, 4, 3)))
    values = np.linspace(0, 1, 60, dtype=np.float32).reshape(5, 4, 3)
    saved = nib.load(files.save(source.with_values(values), tmp_path / "float.nii.gz"))
    np.testing.assert_array_equal(saved.get_fdata(dtype=np.float32), values)
    assert saved.get_data_dtype() == np.float32
    np.testing.assert_array_equal(saved.affine, nib.load(tmp_path / "int.nii").affine)


def test_a_volume_without_header_is_aligned_and_in_mm(tmp_path):
    affine = np.diag([2.0, 3, 4, 1])
    saved = nib.load(files.save(Volume(np.ones((3, 4, 5), np.float32), affine), tmp_path / "x.nii.gz"))
    np.testing.assert_allclose(saved.affine, affine)
    assert int(saved.header["sform_code"]) == 2
    assert saved.header.get_xyzt_units()[0] == "mm"
    assert saved.header.get_zooms() == (2, 3, 4)


def test_replacing_rounds_and_clips_and_keeps_the_rest():
    volume = Volume(np.array([[[0, 100, 255]]], np.uint8), np.eye(4), slope=2.0, inter=10.0)
    where = np.array([[[True, True, False]]])
    result = volume.with_replaced(where, np.array([[[-50.0, 113.1, 0]]]))
    assert result.data.tolist() == [[[0, 52, 255]]]
    assert volume.with_replaced(where, np.full((1, 1, 3), 1e9)).data.tolist() == [[[255, 255, 255]]]


def test_refusals_name_the_file(tmp_path):
    good = write(tmp_path / "good.nii", np.arange(60, dtype=np.int16).reshape(5, 4, 3)).read_bytes()
    four = write(tmp_path / "four.nii", np.zeros((5, 4, 3, 2), np.int16)).read_bytes()
    nan = write(tmp_path / "nan.nii", np.full((5, 4, 3), np.nan, np.float32)).read_bytes()
    rgb = bytearray(good)
    rgb[70:74] = struct.pack("<hh", 128, 24)
    flat = write(tmp_path / "flat.nii", np.zeros((5, 4, 3), np.int16), np.diag([1.0, 1, 1e-9, 1])).read_bytes()
    big = bytearray(good)
    big[40:56] = struct.pack("<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)
    cases = {
        "empty": (b"", "empty"),
        "text": (b"hello, this is no scan" * 40, "neither NIfTI nor DICOM"),
        "cut header": (good[:200], "ends within"),
        "cut data": (good[:-10], "cannot hold"),
        "cut gzip": (gzip.compress(good)[:-30], "x.nii"),
        "too much": (good + bytes(100), "more than"),
        "giant": (bytes(big), "cannot hold"),
        "4D": (four, "expected a 3D volume"),
        "nan": (nan, "NaN"),
        "rgb": (bytes(rgb), "real numbers"),
        "flat": (flat, "geometry"),
    }
    for name, (content, words) in cases.items():
        path = tmp_path / "x.nii"
        path.write_bytes(content)
        with pytest.raises(UserError, match=words) as caught:
            files.load(path)
        assert "x.nii" in str(caught.value), name
    with pytest.raises(UserError, match="no such file"):
        files.load(tmp_path / "missing.nii")


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    header = bytearray(write(tmp_path / "good.nii", np.zeros((5, 4, 3), np.int16)).read_bytes()[:352])
    header[40:56] = struct.pack("<8h", 3, 2000, 2000, 2000, 1, 1, 1, 1)
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(bytes(header) + bytes(2**24)))
    read = []
    exactly = nifti._exactly
    monkeypatch.setattr(nifti, "_exactly", lambda p, f, n, what: read.append(n) or exactly(p, f, n, what))
    with pytest.raises(UserError, match=r"cannot hold|at most"):
        files.load(path)
    assert sum(read) < 1000


def test_a_gzip_whose_checksum_fails_is_refused(tmp_path):
    packed = bytearray(gzip.compress(write(tmp_path / "g.nii", np.zeros((5, 4, 3), np.int16)).read_bytes()))
    packed[-6] ^= 0xFF
    (tmp_path / "x.nii.gz").write_bytes(bytes(packed))
    with pytest.raises(UserError, match="cannot be read"):
        files.load(tmp_path / "x.nii.gz")


def test_nothing_is_written_where_writing_fails(tmp_path):
    volume = Volume(np.ones((3, 4, 5), np.float32), np.eye(4))
    with pytest.raises(UserError, match="cannot be written"):
        files.save(volume, tmp_path / "missing" / "x.nii.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("packed", [False, True])
def test_mutations_end_in_a_volume_or_a_user_error(tmp_path, packed):
    rng = np.random.default_rng(packed)
    good = write(tmp_path / "good.nii", rng.integers(0, 500, (6, 5, 4), dtype=np.int16)).read_bytes()
    content = gzip.compress(good) if packed else good
    path = tmp_path / "x.nii"
    refused = 0
    for case in range(500):
        data = bytearray(content)
        end = len(data) if packed or case % 5 == 0 else 352
        for _ in range(int(rng.integers(1, 5))):
            data[int(rng.integers(end))] = int(rng.integers(256))
        path.write_bytes(bytes(data[: int(rng.integers(len(data)))] if case % 10 == 0 else data))
        try:
            volume = files.load(path)
        except UserError:
            refused += 1
        else:
            assert volume.data.ndim == 3
            assert np.isfinite(volume.values()).all()
            nifti.encoded(volume)
    assert refused > 0


def test_a_slice_of_a_scan_is_saved_where_it_lies(tmp_path):
    volume = files.load(PACKAGED / "anatomical.nii")
    layout = Layout(volume.affine, "coronal")
    part = layout.one_slice(volume, 7)
    saved = nib.load(files.save(part, tmp_path / "slice.nii.gz"))
    np.testing.assert_allclose(saved.affine, part.affine, atol=1e-4)
    np.testing.assert_array_equal(layout.apply(np.asanyarray(saved.dataobj))[0], layout.apply(volume.data)[7])
    where = nib.affines.apply_affine(layout.model_affine(volume.shape), [7, 2, 3])
    np.testing.assert_allclose(
        nib.affines.apply_affine(Layout(saved.affine, "coronal").model_affine(saved.shape), [0, 2, 3]), where
    )
    source = nib.load(PACKAGED / "anatomical.nii").header
    for name in ("qform_code", "sform_code", "xyzt_units"):
        assert saved.header[name] == source[name]


def test_a_pipe_is_refused_unopened(tmp_path):
    os.mkfifo(tmp_path / "x.nii")
    assert list(files.find(tmp_path)) == [tmp_path / "x.nii"]
    with pytest.raises(UserError, match=r"x\.nii: a device or pipe; expected NIfTI"):
        files.load(tmp_path / "x.nii")
