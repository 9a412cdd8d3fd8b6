"""Named data sets from files in their published form: what adapters read must be what was published."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import soundfile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from cmmulti import registry
from cmmulti.cli import main
from cmmulti.errors import UserError
from cmmulti.modality import DataSource
from modalities.volume.prepare_mr import coded, split_of


def prepared(name: str, source: Path, target: Path) -> list[str]:
    result = registry.load("preparers", name)(source, target)
    assert all(file.is_relative_to(target) for file in result.files)
    return list(result.notes)


def clips(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Noise as WAV files of the repository's form."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    made = {n: generator.integers(-32768, 32768, generator.integers(1200, 9000)).astype(np.int16) for n in names}
    for name, samples in made.items():
        soundfile.write(folder / name, samples, 8000, subtype="PCM_16")
    return made


def test_fsdd_keeps_every_sample_bit_for_bit(tmp_path: Path) -> None:
    names = ["0_george_0.wav", "0_george_12.wav", "3_theo_4.wav", "9_jackson_5.wav", "9_theo_47.wav"]
    made = clips(tmp_path / "repository" / "recordings", names)
    (tmp_path / "repository" / "recordings" / "notes.wav").write_bytes(b"")  # not a recording by its name
    assert main(["data", "prepare", "fsdd", "--from", str(tmp_path / "repository"), "--to", str(tmp_path / "root")]) == 0
    z = np.load(tmp_path / "root" / "fsdd" / "fsdd.npz", allow_pickle=False)
    assert list(z["names"]) == sorted(names)
    offsets = z["offsets"]
    for i, name in enumerate(z["names"]):
        assert np.array_equal(z["audio"][offsets[i] : offsets[i + 1]], made[str(name)])
    assert z["labels"].tolist() == [0, 0, 3, 9, 9]
    assert z["take"].tolist() == [0, 12, 4, 5, 47]
    assert z["official_test"].tolist() == [True, False, True, False, False]
    assert [str(z["speaker_names"][i]) for i in z["speaker_ids"]] == ["george", "george", "theo", "jackson", "theo"]


def test_the_audio_adapter_reads_what_was_prepared(tmp_path: Path) -> None:
    names = [f"{digit}_theo_{take}.wav" for digit in (1, 2) for take in (0, 5, 6, 7, 8)]
    made = clips(tmp_path / "recordings", names)
    prepared("fsdd", tmp_path, tmp_path / "root")
    adapter = registry.load("modalities", "audio")
    modality = adapter(adapter.Settings())
    held = modality.dataset(DataSource(name="fsdd", root=tmp_path / "root"), "test")
    assert held.labels.tolist() == [1, 2]
    assert np.array_equal(held.item(1).samples[:, 0], made["2_theo_0.wav"])


@pytest.mark.parametrize("damage", ["truncated", "stereo", "rate", "empty", "float"])
def test_a_bad_recording_is_named_and_nothing_is_written(tmp_path: Path, damage: str) -> None:
    clips(tmp_path / "recordings", ["1_theo_0.wav", "2_theo_0.wav"])
    path = tmp_path / "recordings" / "2_theo_0.wav"
    samples, _ = soundfile.read(path, dtype="int16")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:30])
    elif damage == "stereo":
        soundfile.write(path, np.stack([samples, samples], 1), 8000, subtype="PCM_16")
    elif damage == "rate":
        soundfile.write(path, samples, 16000, subtype="PCM_16")
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        soundfile.write(path, samples, 8000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"2_theo_0\.wav"):
        prepared("fsdd", tmp_path, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    for name in ("fsdd", "cifar10-jpeg", "ixi-t1-2mm", "ct-hu-256", "hippocampus"):
        with pytest.raises(UserError, match="expected"):
            prepared(name, tmp_path, tmp_path / "root")
        with pytest.raises(UserError, match="expected"):
            prepared(name, tmp_path / "missing", tmp_path / "root")


def test_digits_need_nothing_and_an_unknown_name_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "digits", "--to", str(tmp_path)]) == 0
    assert "scikit-learn" in capsys.readouterr().out
    assert main(["data", "prepare", "fsd", "--to", str(tmp_path)]) == 2
    assert "did you mean 'fsdd'" in capsys.readouterr().err


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=75)
    return stream.getvalue()


def test_cifar10_keeps_the_files_and_the_adapter_reads_them(tmp_path: Path) -> None:
    classes = registry.load("preparers", "cifar10-jpeg").__globals__["CLASSES"]
    written = {}
    for part, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(classes):
            folder = tmp_path / "repository" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                written[part, label, i] = jpeg(hash((part == "test", label, i)) % 2**32)
                (folder / f"{i:04d}.jpg").write_bytes(written[part, label, i])
    notes = prepared("cifar10-jpeg", tmp_path / "repository", tmp_path / "root")
    assert notes == ["train: 30 pictures", "test: 20 pictures"]
    z = np.load(tmp_path / "root" / "cifar10-jpeg" / "cifar10_test_jpeg.npz", allow_pickle=False)
    assert z["labels"].tolist() == [*range(10), *range(10)]
    a, b = z["offsets"][13:15]
    assert z["jpeg"][a:b].tobytes() == written["test", 3, 1]
    adapter = registry.load("modalities", "image")
    modality = adapter(adapter.Settings(size=(32, 32), channels=3, classes=10))
    held = modality.dataset(DataSource(name="cifar10-jpeg", root=tmp_path / "root"), "test")
    assert len(held) == 20
    (tmp_path / "repository" / "train" / "cat" / "0001.jpg").write_bytes(jpeg(0)[:200])
    with pytest.raises(UserError, match=r"0001\.jpg"):
        prepared("cifar10-jpeg", tmp_path / "repository", tmp_path / "other")


def dicom(path: Path, stored: np.ndarray, patient: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    d.SOPClassUID, d.SOPInstanceUID, d.PatientID, d.Modality = (
        CTImageStorage,
        meta.MediaStorageSOPInstanceUID,
        patient,
        "CT",
    )
    d.Rows, d.Columns = stored.shape
    d.PixelSpacing, d.SliceThickness, d.Manufacturer, d.PatientAge = [0.7, 0.8], 5.0, "MAKER", "061Y"
    d.RescaleSlope, d.RescaleIntercept = 2, -1024
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.PixelData = stored.astype(np.uint16).tobytes()
    pydicom.dcmwrite(path, d)


def test_ct_slices_are_averaged_hounsfield_units_without_duplicates(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    first, second = (np.kron(generator.integers(0, 2000, (256, 256)), np.ones((2, 2), int)) for _ in range(2))
    dicom(tmp_path / "ID_0000_AGE_0060_CONTRAST_1_CT.dcm", first, "A")
    dicom(tmp_path / "ID_0001_AGE_0060_CONTRAST_1_CT.dcm", first, "A")
    dicom(tmp_path / "other.dcm", second, "B")
    notes = prepared("ct-hu-256", tmp_path, tmp_path / "root")
    assert notes == ["2 slices of 2 patients; 1 duplicates left out"]
    z = np.load(tmp_path / "root" / "ct-hu-256" / "ct_hu_256.npz", allow_pickle=False)
    assert np.array_equal(z["slices"][0], (2 * first[::2, ::2] - 1024).clip(-1024, 3071))
    assert z["pixel_spacing_mm"].tolist() == pytest.approx(np.array([[1.4, 1.6]] * 2))
    assert z["age"].tolist() == [60, 61]
    assert z["contrast"].tolist() == [1, 0]
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "other.dcm").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut\.dcm"):
        prepared("ct-hu-256", tmp_path, tmp_path / "again")


def test_hippocampus_values_come_back_from_codes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    stored = {}
    for number, step in (("001", 1.0), ("002", 5.9589701), ("003", None)):
        values = generator.integers(0, 400, (5, 6, 7)) * step if step else generator.random((5, 6, 7)) * 1e6
        stored[number] = values.astype(np.float32)
        for folder, data in (
            ("imagesTr", stored[number]),
            ("labelsTr", generator.integers(0, 3, (5, 6, 7)).astype(np.uint8)),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / folder / f"hippocampus_{number}.nii.gz")
    nib.save(nib.Nifti1Image(stored["001"], np.eye(4)), tmp_path / "imagesTr" / "hippocampus_009.nii.gz")
    assert prepared("hippocampus", tmp_path, tmp_path / "root") == ["3 volumes; 1 without labels left out"]
    z = np.load(tmp_path / "root" / "hippocampus" / "hippocampus.npz", allow_pickle=False)
    for i, values in enumerate(stored.values()):
        codes = z["images"][z["offsets"][i] : z["offsets"][i + 1]].reshape(z["shapes"][i])
        tolerance = 1e-6 if i < 2 else 1e-5  # the last one has no step of its own
        assert np.abs(codes * np.float64(z["scale"][i]) - values).max() < tolerance * values.max()
    assert z["scale"][:2].tolist() == pytest.approx([1.0, 5.9589701], rel=1e-6)


def test_codes_of_a_flat_volume() -> None:
    assert coded(np.zeros((2, 2), np.float32))[1] == 1.0
    codes, step = coded(np.full((2, 2), 7.5, np.float32))
    assert np.allclose(codes * step, 7.5)


def test_ixi_heads_stand_upright_at_two_millimetres_in_their_place(tmp_path: Path) -> None:
    """A ball with one bright corner, stored at 1 mm in another orientation."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (120, 140, 130)], indexing="ij"), -1)
    values = 500.0 * (np.linalg.norm(grid - (60, 70, 65), axis=-1) < 50)
    bright = (80, 90, 85)
    values[tuple(slice(b, b + 6) for b in bright)] = 1000
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (-60, -70, -65)
    as_stored = nib.orientations.axcodes2ornt(("P", "I", "R"))
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), as_stored)
    turned = nib.Nifti1Image(values.astype(np.int16), affine).as_reoriented(turn)
    nib.save(turned, tmp_path / "IXI013-HH-1212-T1.nii.gz")
    nib.save(turned, tmp_path / "IXI002-Guys-0828-T1.nii.gz")  # another site
    assert prepared("ixi-t1-2mm", tmp_path, tmp_path / "root") == ["1 subjects: 0 train, 0 val, 1 test"]
    z = np.load(tmp_path / "root" / "ixi-t1-2mm" / "ixi_t1_2mm_0.npz", allow_pickle=False)
    head, placed = z["volumes"][0], z["affines"][0].astype(float)
    assert head.shape == (90, 120, 120)
    assert not (head % 2).any()
    assert np.allclose(placed[:3, :3], 2 * np.eye(3))
    corner = np.linalg.inv(placed) @ [*(np.array(bright) + 2.5 - (60, 70, 65)), 1]
    found = np.unravel_index(int(head.argmax()), head.shape)
    assert np.abs(corner[:3] - found).max() <= 1.5
    assert 480 < float(np.median(head[head > 100])) * float(z["slopes"][0]) < 520
    adapter = registry.load("modalities", "volume")
    assert (
        len(adapter(adapter.Settings()).dataset(DataSource(name="ixi-t1-2mm", root=tmp_path / "root"), "test").scans) == 1
    )


def test_the_parts_of_ixi_are_fixed_by_name() -> None:
    assert split_of("IXI633-HH-2689") == "test"
    assert split_of("IXI097-HH-1619") == "val"
    assert split_of("IXI012-HH-1211") == "train"
