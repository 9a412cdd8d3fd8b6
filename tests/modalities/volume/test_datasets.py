"""Data sets: splits by subject, seeded augmentation, tensors on the model's grid, errors that name the file."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.modality import DataSource
from modalities.volume.item import Volume
from modalities.volume.modality import VolumeModality
from modalities.volume.scans import archives
from modalities.volume.settings import VolumeSettings
from modalities.volume.splits import distinct, divide
from modalities.volume.training import VolumeData, VolumeSet

HEAD = VolumeModality(VolumeSettings(size=(16, 8), voxel_mm=(2, 2)))
CHEST = VolumeModality(VolumeSettings(kind="ct", size=(16, 16), voxel_mm=(1.5, 1.5)))
CROPPED = VolumeModality(VolumeSettings(dims=3, size=(8, 12, 8), voxel_mm=(1, 1, 1)))


@pytest.fixture(autouse=True)
def _forget() -> None:
    archives._arrays.cache_clear()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The three archives in their own form, tiny."""
    rng = np.random.default_rng(0)
    (tmp_path / "ixi-t1-2mm").mkdir()
    for part in (0, 1):
        volumes = np.zeros((3, 6, 15, 5), np.uint8)
        volumes[:, 1:5, 3:12, 1:4] = rng.integers(40, 200, (3, 4, 9, 3))
        np.savez(
            tmp_path / f"ixi-t1-2mm/ixi_t1_2mm_{part}.npz",
            volumes=volumes,
            affines=np.repeat(np.diag([2, 2, 2, 1]).astype(np.float32)[None], 3, 0),
            slopes=np.array([2, 3, 4], np.float32),
            ids=np.array([f"S{part}{i}" for i in range(3)]),
            split=np.array(["train", "val", "test"]),
        )
    (tmp_path / "ct-hu-256").mkdir()
    slices = rng.integers(-1024, 1500, (12, 16, 16), dtype=np.int16)
    slices[7], slices[9] = slices[0], slices[1]
    np.savez(
        tmp_path / "ct-hu-256/ct_hu_256.npz",
        slices=slices,
        patient_ids=np.array([f"P{i % 5}" for i in range(12)]),
        pixel_spacing_mm=np.full((12, 2), [1.5, 1.25], np.float32),
        slice_thickness_mm=np.full(12, 5, np.float32),
        names=np.array([f"f{i}" for i in range(12)]),
    )
    (tmp_path / "hippocampus").mkdir()
    shapes = np.array([[8 + i % 3, 11 + i % 4, 7 + i % 4] for i in range(20)], np.int16)
    offsets = np.concatenate([[0], np.cumsum(shapes.astype(np.int64).prod(1))])
    np.savez(
        tmp_path / "hippocampus/hippocampus.npz",
        images=rng.integers(1, 500, offsets[-1], dtype=np.uint16),
        masks=np.zeros(offsets[-1], np.uint8),
        scale=np.linspace(0.1, 900, 20).astype(np.float32),
        offsets=offsets,
        shapes=shapes,
        affines=np.repeat(np.eye(4, dtype=np.float32)[None], 20, 0),
        names=np.array([f"h{i:03d}" for i in range(20)]),
    )
    return tmp_path


def source(name: str, root: Path, **options: object) -> DataSource:
    return DataSource(name=name, root=root, options=options)


def test_heads_follow_the_given_split_and_skip_slices_of_air(root):
    parts = {split: HEAD.dataset(source("ixi-t1-2mm", root), split) for split in ("train", "val", "test")}
    assert [sorted(part.scans) for part in parts.values()] == [["S00", "S10"], ["S01", "S11"], ["S02", "S12"]]
    train = parts["train"]
    assert len(train) == 6
    assert train.names[0] == "S00, slice 1"
    assert train.files[0] == "S00"
    assert train.licence == "CC-BY-SA-3.0"
    assert "brain-development.org" in train.attribution
    assert (train.labels == -1).all()
    x = train.tensor(0, None)
    assert x.shape == (1, 16, 8)
    assert x.dtype == torch.float32
    # A slice as an item is where its volume says, and its picture is the training tensor but for its own gain.
    item = train.item(0)
    assert item.shape == (6, 15, 1)
    assert item.affine[2, 3] == 2
    whole = HEAD.encode(train.scans["S00"])[1]
    torch.testing.assert_close(x, whole)


def test_augmentation_is_drawn_from_the_generator_alone(root):
    train = HEAD.dataset(source("ixi-t1-2mm", root, bias=0.3), "train")

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.stack([train.tensor(i, generator) for i in range(len(train))])

    before = torch.random.get_rng_state()
    assert torch.equal(draw(0), draw(0))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(draw(0), draw(1))
    many = torch.cat([draw(seed) for seed in range(40)])
    assert many.min() == -1
    assert (many[:, :, 0] == -1).all()  # air stays air under any gain


def test_gain_and_flip_act_as_they_say(root):
    plain = HEAD.dataset(source("ixi-t1-2mm", root), "train").tensor(0, None)
    only_gain = HEAD.dataset(source("ixi-t1-2mm", root, flip=False), "train")
    ratios = [
        float((only_gain.tensor(0, torch.Generator().manual_seed(s)) + 1).sum() / (plain + 1).sum()) for s in range(200)
    ]
    assert min(ratios) == pytest.approx(0.7, abs=0.03)
    assert max(ratios) == pytest.approx(1.4, abs=0.05)
    only_flip = HEAD.dataset(source("ixi-t1-2mm", root, gain=[1, 1]), "train")
    drawn = [only_flip.tensor(0, torch.Generator().manual_seed(s)) for s in range(40)]
    flipped = sum(torch.equal(x, plain.flip(-1)) for x in drawn)
    assert flipped + sum(torch.equal(x, plain) for x in drawn) == 40
    assert 8 < flipped < 32


def test_sagittal_slices_are_not_flipped_front_to_back(root):
    sagittal = VolumeModality(VolumeSettings(size=(8, 16), voxel_mm=(2, 2), plane="sagittal"))
    for flip in ({}, {"flip": None}, {"flip": False}):
        part = sagittal.dataset(source("ixi-t1-2mm", root, gain=[1, 1], **flip), "train")
        drawn = (part.tensor(0, torch.Generator().manual_seed(s)) for s in range(9))
        assert all(torch.equal(x, part.tensor(0, None)) for x in drawn)
    with pytest.raises(UserError, match=r"data\.options\.flip = true: flips sagittal"):
        sagittal.dataset(source("ixi-t1-2mm", root, flip=True), "train")


def test_chest_is_split_by_patient_without_duplicates(root):
    parts = [CHEST.dataset(source("ct-hu-256", root, fractions=[0.2, 0.2]), split) for split in ("train", "val", "test")]
    patients = [{name.split()[0] for name in part.scans} for part in parts]
    assert [len(p) for p in patients] == [3, 1, 1]
    assert not patients[0] & patients[1] | patients[0] & patients[2] | patients[1] & patients[2]
    assert sum(len(part.scans) for part in parts) == 10
    volume = parts[0].item(0)
    x = CHEST.encode(volume.__class__(volume.data, np.diag([-1.5, -1.5, 5, 1]), kind="ct"))
    torch.testing.assert_close(parts[0].tensor(0, None), x[0])
    assert volume.voxel_mm.tolist() == [1.25, 1.5, 5]


def test_crops_and_zooms_of_slices(root):
    train = CHEST.dataset(source("ct-hu-256", root, crop=[8, 10], zoom=[0.5, 2.0]), "train")
    drawn = torch.stack([train.tensor(0, torch.Generator().manual_seed(s)) for s in range(30)])
    assert drawn.shape == (30, 1, 8, 10)
    assert drawn.min() >= -1
    assert len({float(x.mean()) for x in drawn}) > 20


def test_volumes_are_one_tensor_each(root):
    parts = {split: CROPPED.dataset(source("hippocampus", root), split) for split in ("train", "val", "test")}
    assert [len(p) for p in parts.values()] == [16, 2, 2]
    names = [name for part in parts.values() for name in part.names]
    assert len(set(names)) == 20
    again = CROPPED.dataset(source("hippocampus", root), "test")
    assert list(again.names) == list(parts["test"].names)
    other = CROPPED.dataset(source("hippocampus", root, seed=1), "test")
    assert list(other.names) != list(parts["test"].names)
    x = parts["train"].tensor(0, torch.Generator().manual_seed(0))
    assert x.shape == (1, 8, 12, 8)


def test_a_folder_of_scans(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(10):
        (tmp_path / f"sub-{i}").mkdir()
        for run in "ab":
            image = nib.Nifti1Image(rng.integers(1, 99, (6, 15, 4), dtype=np.int16), np.diag([2.0, 2, 2, 1]))
            image.to_filename(tmp_path / f"sub-{i}/{run}.nii.gz")
    parts = [HEAD.dataset(source("folder", tmp_path), split) for split in ("train", "val", "test")]
    subjects = [{Path(name).parts[0] for name in part.scans} for part in parts]
    assert [len(s) for s in subjects] == [8, 1, 1]
    assert len(set.union(*subjects)) == 10
    assert len(parts[0]) == 8 * 2 * 4
    bad = next(iter(parts[0].scans))
    (tmp_path / bad).write_bytes(b"")
    with pytest.raises(UserError, match="empty"):
        HEAD.dataset(source("folder", tmp_path), "train")


def test_slices_of_air_are_skipped_whatever_the_sign_of_the_stored_scale():
    values = np.zeros((12, 10, 4), np.float32)
    values[3:9, 3:7, 1:3] = 100
    affine = np.diag([2.0, 2, 2, 1])
    for stored in (Volume(values, affine), Volume(-values, affine, slope=-1.0)):
        made = VolumeSet({"scan": stored}, VolumeSettings(size=(12, 10)), VolumeData())
        assert made.names == ["scan, slice 1", "scan, slice 2"]


def scans_at(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(np.ones((6, 15, 4), np.int16), np.diag([2.0, 2, 2, 1])).to_filename(root / name)


@pytest.mark.parametrize("rest", ["train/", ""])
@pytest.mark.parametrize("given", [["test"], ["val"], ["val", "test"], []])
def test_splits_that_are_no_folders_are_drawn_from_the_others(tmp_path, rest, given):
    mine = [f"{rest}sub-{i}/a.nii" for i in range(10)]
    scans_at(tmp_path, *mine, *(f"{part}/held/a.nii" for part in given))
    parts = {split: set(HEAD.dataset(source("folder", tmp_path), split).scans) for split in ("train", "val", "test")}
    for part in given:
        assert parts.pop(part) == {f"{part}/held/a.nii"}
    assert {split: len(names) for split, names in parts.items()} == {
        split: 1 if split != "train" else 8 + len(given) for split in parts
    }
    assert set.union(*parts.values()) == set(mine)


def test_a_bad_file_is_named_and_skipped_only_when_told_so(tmp_path, capsys):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        image = nib.Nifti1Image(np.ones((6, 15, 4), np.int16), np.diag([2.0, 2, 2, 1]))
        image.to_filename(tmp_path / part / "good.nii")
    (tmp_path / "train/bad.nii").write_bytes(b"not a scan")
    data = DataSource(name="folder", root=tmp_path, on_bad_file="skip")
    assert list(HEAD.dataset(data, "train").scans) == ["train/good.nii"]
    assert "bad.nii" in capsys.readouterr().err
    with pytest.raises(UserError, match="none"):
        HEAD.dataset(data, "test")


def test_a_scan_that_is_no_magnitude_is_a_bad_file_too(tmp_path, capsys):
    scans_at(tmp_path / "train", *(f"{i}/a.nii.gz" for i in range(3)))
    phase = np.random.default_rng(0).integers(-99, 99, (6, 15, 4), dtype=np.int16)
    nib.Nifti1Image(phase, np.diag([2.0, 2, 2, 1])).to_filename(tmp_path / "train/1/a.nii.gz")
    drawn = {"fractions": (0.0, 0.0)}
    with pytest.raises(UserError, match=r"1/a.nii.gz: expected MR magnitudes"):
        HEAD.dataset(source("folder", tmp_path, **drawn), "train")
    skipping = source("folder", tmp_path, **drawn).model_copy(update={"on_bad_file": "skip"})
    assert len(HEAD.dataset(skipping, "train").scans) == 2
    assert "1/a.nii.gz: expected MR magnitudes" in capsys.readouterr().err


def test_a_scan_of_other_voxels_is_refused_without_advice_that_training_cannot_take(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        nib.Nifti1Image(np.ones((6, 15, 4), np.int16), np.diag([3.0, 3, 3, 1])).to_filename(tmp_path / part / "a.nii")
    with pytest.raises(UserError, match=r"3 x 3 mm .*; resample it first, or change modality\.voxel_mm$"):
        HEAD.dataset(source("folder", tmp_path), "train")


def test_mistakes_are_named(root, tmp_path, monkeypatch):
    monkeypatch.delenv("CMMULTI_DATA", raising=False)
    (root / "empty").mkdir()
    broken = root / "broken"
    (broken / "hippocampus").mkdir(parents=True)
    (broken / "hippocampus/hippocampus.npz").write_bytes((root / "hippocampus/hippocampus.npz").read_bytes()[:-200])
    (broken / "ixi-t1-2mm").mkdir()
    np.savez(broken / "ixi-t1-2mm/ixi_t1_2mm_0.npz", volumes=np.zeros(3))
    for data, words in [
        (source("ixi-t1", root), "did you mean 'ixi-t1-2mm'"),
        (source("hippocampus", root / "empty"), "expected a folder"),
        (DataSource(name="hippocampus"), "CMMULTI_DATA"),
        (source("hippocampus", broken), "not a readable archive"),
        (source("ixi-t1-2mm", broken), "not the expected archive"),
        (source("folder", root / "empty"), "found none"),
        (source("hippocampus", root, flipp=True), "did you mean 'flip'"),
        (source("ixi-t1-2mm", root, content=0.9), "nothing to learn from"),
        (source("ixi-t1-2mm", root, crop=[8, 8, 8]), r"crop.*expected 2"),
        (source("ixi-t1-2mm", root, gain=[2, 1]), "0 < smallest <= largest"),
        (source("ixi-t1-2mm", root, fractions=[0.6, 0.6]), "fractions"),
    ]:
        with pytest.raises(UserError, match=words):
            HEAD.dataset(data, "train")


def test_the_environment_names_the_root(root, monkeypatch):
    monkeypatch.setenv("CMMULTI_DATA", str(root))
    assert len(CROPPED.dataset(DataSource(name="hippocampus"), "val")) == 2


def test_splits_are_disjoint_whole_and_seeded():
    parts = divide(240, 0, (0.1, 0.1))
    assert [len(parts[s]) for s in ("train", "val", "test")] == [192, 24, 24]
    assert sorted(i for part in parts.values() for i in part) == list(range(240))
    assert divide(240, 0, (0.1, 0.1)) == parts != divide(240, 1, (0.1, 0.1))
    assert distinct(np.array([[1, 2], [3, 4], [1, 2]])) == [0, 1]
