"""DICOM: slices in their places, or a refusal that says why."""

import copy
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from cmmulti.errors import UserError
from cmmulti.inspection import inspect
from modalities.volume.geometry import Layout
from modalities.volume.scans import files


def packaged(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


@pytest.fixture
def ct() -> Dataset:
    """A real CT slice, cut down to 16 rows of 12 columns."""
    data = pydicom.dcmread(packaged("CT_small.dcm"))
    pixels = data.pixel_array[40:56, 60:72].copy()
    data.PixelData, data.Rows, data.Columns = pixels.tobytes(), 16, 12
    del data[0xFFFC, 0xFFFC]  # trailing padding of the file
    return data


def write_series(folder: Path, ct: Dataset, positions: list, change=None) -> Path:
    """Slices at the given positions (LPS mm); file names say nothing about their order."""
    folder.mkdir(exist_ok=True)
    for i, position in enumerate(positions):
        data = copy.deepcopy(ct)
        data.ImagePositionPatient = [float(v) for v in position]
        data.SOPInstanceUID = generate_uid(entropy_srcs=["slice", str(i)])
        data.InstanceNumber = 100 - i
        data.PixelData = (ct.pixel_array + i).astype(np.int16).tobytes()
        if change is not None:
            change(i, data)
        data.save_as(folder / f"{(i * 7) % 10}-{i}.dcm")
    return folder


def stack(n: int, step=(0, 0, 5.0)) -> list:
    return [np.array([-50.0, -40, 10]) + i * np.array(step) for i in range(n)]


def test_a_real_slice_in_hu_and_in_its_place():
    volume = files.load(packaged("CT_small.dcm"))
    assert (volume.shape, volume.kind, volume.slope, volume.inter) == ((128, 128, 1), "ct", 1, -1024)
    values = volume.values()
    assert (values.min(), values.max()) == (-896, 1167)
    data = pydicom.dcmread(packaged("CT_small.dcm"))
    # Pixel (row 3, column 7): DICOM's own formula, then LPS to RAS.
    along_row, along_column = np.array(data.ImageOrientationPatient[:3]), np.array(data.ImageOrientationPatient[3:])
    rows, columns = map(float, data.PixelSpacing)
    lps = np.array(data.ImagePositionPatient, float) + 7 * columns * along_row + 3 * rows * along_column
    np.testing.assert_allclose((volume.affine @ [7, 3, 0, 1])[:3], lps * [-1, -1, 1], atol=1e-4)
    assert values[7, 3, 0] == data.pixel_array[3, 7] - 1024
    np.testing.assert_array_equal(Layout(volume.affine, "axial").apply(volume.data)[0], data.pixel_array)


@pytest.mark.parametrize(
    "name",
    ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm"],
)
def test_codings_of_the_same_slice_agree(name):
    volume = files.load(packaged(name))
    assert volume.kind == "mr"
    np.testing.assert_array_equal(volume.data, files.load(packaged("MR_small.dcm")).data)


def test_slices_are_sorted_by_position_and_written_as_nifti(tmp_path, ct):
    volume = files.load(write_series(tmp_path / "series", ct, list(reversed(stack(5)))))
    assert volume.shape == (12, 16, 5)
    assert volume.voxel_mm == pytest.approx([ct.PixelSpacing[1], ct.PixelSpacing[0], 5.0])
    for k in range(5):
        np.testing.assert_array_equal(volume.data[:, :, k], ct.pixel_array.T + 4 - k)
        np.testing.assert_allclose((volume.affine @ [0, 0, k, 1])[:3], [50, 40, 10 + 5 * k], atol=1e-5)
    again = files.load(files.save(volume, tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-4)
    assert int(again.header["sform_code"]) == 1
    assert (again.slope, again.inter) == (volume.slope, volume.inter)


def test_rounded_positions_are_one_grid(tmp_path, ct):
    volume = files.load(write_series(tmp_path / "s", ct, [np.round(p, 2) for p in stack(7, (0, 0, 1.6667))]))
    assert volume.voxel_mm[2] == pytest.approx(1.6667, abs=0.002)


def test_an_oblique_series(tmp_path, ct):
    along_row, along_column = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])
    ct.ImageOrientationPatient = [*along_row, *along_column]
    volume = files.load(write_series(tmp_path / "s", ct, stack(4, 3 * np.cross(along_row, along_column))))
    spacing = [float(v) for v in ct.PixelSpacing]
    lps = np.diag([-1.0, -1, 1]) @ volume.affine[:3, :3]
    np.testing.assert_allclose(lps[:, 0], along_row * spacing[1], atol=1e-6)
    np.testing.assert_allclose(lps[:, 1], along_column * spacing[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(lps[:, 2]), 3, atol=1e-6)


def test_scales_that_differ_become_physical_values(tmp_path, ct):
    def change(i, data):
        data.RescaleSlope = 1 + i

    volume = files.load(write_series(tmp_path / "s", ct, stack(3), change))
    expected = (ct.pixel_array.T + 2) * 3.0 - 1024
    np.testing.assert_allclose(volume.values()[:, :, 2], expected)


def test_padding_that_would_be_tissue_is_air(tmp_path, ct):
    ct.PixelRepresentation = 0
    ct.add_new("PixelPaddingValue", "US", 5000)
    pixels = ct.pixel_array.astype(np.uint16)
    pixels[:3] = 5000
    ct.PixelData = pixels.tobytes()
    ct.save_as(tmp_path / "x.dcm")
    values = files.load(tmp_path / "x.dcm").values()
    assert (values[:, :3] == -1000).all()
    assert (values[:, 3:] > -1000).all()


def test_ct_whose_numbers_do_not_become_hounsfield_units_is_refused(tmp_path, ct):
    def without(*names):
        data = copy.deepcopy(ct)
        for name in names:
            delattr(data, name)
        return data

    table, other, old = copy.deepcopy(ct), copy.deepcopy(ct), copy.deepcopy(ct)
    table.ModalityLUTSequence = Sequence([Dataset()])
    other.RescaleType, old.RescaleType = "US", "hu "
    for data, words in (
        (without("RescaleSlope", "RescaleIntercept"), "CT without RescaleSlope and RescaleIntercept"),
        (without("RescaleIntercept"), "CT without RescaleIntercept"),
        (table, "a Modality LUT"),
        (other, "RescaleType US; expected HU"),
    ):
        data.save_as(tmp_path / "x.dcm")
        with pytest.raises(UserError, match=words) as error:
            files.load(tmp_path / "x.dcm")
        assert "\n" not in str(error.value)
    old.save_as(tmp_path / "x.dcm")
    assert files.load(tmp_path / "x.dcm").kind == "ct"


def test_what_makes_no_grid_is_refused(tmp_path, ct):
    def second(i, data):
        if i == 2:
            data.SeriesInstanceUID = generate_uid(entropy_srcs=["other"])

    def narrow(i, data):
        if i == 1:
            data.Columns, data.PixelData = 6, data.PixelData[: len(data.PixelData) // 2]

    def turned(i, data):
        if i == 1:
            data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    def echo(i, data):
        data.EchoTime = 10 * i

    gap = [p for i, p in enumerate(stack(6)) if i != 3]
    cases = [
        (stack(3) + stack(1), None, "same place"),
        (gap, None, "unequal slice spacing: 10 mm"),
        (stack(4, (0, 1.5, 5)), None, "gantry tilt of 16.7 degrees"),
        (stack(4), second, "2 series"),
        (stack(4), narrow, "sizes"),
        (stack(4), turned, "parallel"),
        (stack(4), echo, "echoes"),
    ]
    for number, (positions, change, words) in enumerate(cases):
        folder = write_series(tmp_path / str(number), ct, positions, change)
        with pytest.raises(UserError, match=words):
            files.load(folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no DICOM image"):
        files.load(tmp_path / "none")


def test_what_is_no_grey_ct_or_mr_slice_is_refused(tmp_path, ct):
    assert packaged("rtdose.dcm").exists()
    for name, words in {
        "rtdose.dcm": "modality RTDOSE",
        "SC_rgb_small_odd.dcm": "modality OT",
        "MR_truncated.dcm": "promises",
        "image_dfl.dcm": "deflated",
        "reportsi.dcm": "without pixels",
    }.items():
        with pytest.raises(UserError, match=words):
            files.load(packaged(name))
    changes = {
        "grey": {"PhotometricInterpretation": "PALETTE COLOR"},
        "mosaic": {"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]},
        "ImagePositionPatient": {"ImagePositionPatient": None},
        "frames without": {"NumberOfFrames": 2, "PixelData": ct.PixelData * 2},
        "promises": {"Rows": 60000},
        "RescaleSlope": {"RescaleSlope": 0},
    }
    for words, fields in changes.items():
        data = copy.deepcopy(ct)
        for name, value in fields.items():
            setattr(data, name, value)
        data.save_as(tmp_path / "x.dcm")
        with pytest.raises(UserError, match=words):
            files.load(tmp_path / "x.dcm")


def test_an_enhanced_multi_frame_object(tmp_path, ct):
    data = copy.deepcopy(ct)
    frames = np.stack([ct.pixel_array + 10 * i for i in range(3)]).astype(np.int16)
    data.NumberOfFrames, data.PixelData = 3, frames.tobytes()
    shared, measures, orientation, scale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, orientation.ImageOrientationPatient = data.PixelSpacing, data.ImageOrientationPatient
    scale.RescaleSlope, scale.RescaleIntercept = 2, -1000
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([scale])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    each = []
    for i in (2, 0, 1):
        own, place = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 4.0 * i]
        own.PlanePositionSequence = Sequence([place])
        each.append(own)
    data.PerFrameFunctionalGroupsSequence = Sequence(each)
    del data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing
    data.save_as(tmp_path / "x.dcm")
    volume = files.load(tmp_path / "x.dcm")
    assert volume.shape == (12, 16, 3)
    assert (volume.slope, volume.inter) == (2, -1000)
    assert volume.voxel_mm[2] == pytest.approx(4)
    for k, source in enumerate((1, 2, 0)):
        np.testing.assert_array_equal(volume.data[:, :, k], frames[source].T)


def test_mutations_end_in_a_volume_or_a_user_error(tmp_path, ct):
    stream = io.BytesIO()
    ct.save_as(stream)
    good, rng, path, refused = stream.getvalue(), np.random.default_rng(0), tmp_path / "x.dcm", 0
    for case in range(500):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(132 if case % 20 else 0, len(data)))] = int(rng.integers(256))
        path.write_bytes(bytes(data[: int(rng.integers(132, len(data)))] if case % 10 == 0 else data))
        try:
            volume = files.load(path)
        except UserError:
            refused += 1
        else:
            assert np.isfinite(volume.values()).all()
    assert 0 < refused < 500


def test_scans_below_a_folder_are_found_in_order(tmp_path, ct):
    write_series(tmp_path / "b", ct, stack(2))
    (tmp_path / "a").mkdir()
    write_series(tmp_path / "a" / "x", ct, stack(2))
    files.save(files.load(tmp_path / "b"), tmp_path / "c.nii.gz")
    (tmp_path / "notes.txt").write_text("nothing")
    assert [p.relative_to(tmp_path).as_posix() for p in files.find(tmp_path)] == ["c.nii.gz", "a/x", "b"]
    # A folder without DICOM files of its own stands for what lies below it: here two copies of one series.
    with pytest.raises(UserError, match="same place"):
        files.load(tmp_path)


def test_inspect_describes_a_series_and_says_what_is_wrong_with_one(tmp_path, ct):
    whole = inspect(write_series(tmp_path / "whole", ct, stack(4)))
    assert (whole["kind"], whole["data"]["shape"], whole["voxel_mm"][2]) == ("ct", [12, 16, 4], 5.0)
    gap = inspect(write_series(tmp_path / "gap", ct, [p for i, p in enumerate(stack(6)) if i != 3]))
    assert (gap["kind"], gap["files"]) == ("folder of data", {"volume": 5})
    assert "unequal slice spacing" in gap["not_one_item"]
    several = inspect(tmp_path)
    assert (several["kind"], several["files"], "not_one_item" in several) == ("folder of data", {"volume": 9}, False)
    bare = tmp_path / "bare"
    bare.mkdir()
    for number, file in enumerate((tmp_path / "whole").iterdir()):
        (bare / f"IM{number}").write_bytes(file.read_bytes())
    assert inspect(bare)["data"]["shape"] == [12, 16, 4]
    (bare / "IM0").unlink()
    (bare / "IM1").unlink()
    (bare / "IM2").write_bytes((bare / "IM3").read_bytes())
    with pytest.raises(UserError, match="same place"):
        inspect(bare)
