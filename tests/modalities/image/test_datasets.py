"""Data sets: digits, CIFAR-10 archives, folders and zip files."""

from __future__ import annotations

import io
import logging
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from cmmulti.errors import UserError
from cmmulti.modality import DataSource
from modalities.image import files
from modalities.image.arrays import divide
from modalities.image.modality import ImageModality
from modalities.image.picture import Picture
from modalities.image.settings import ImageSettings

SPLITS = ("train", "val", "test")
DIGITS = ImageModality(ImageSettings(size=8, channels=1, classes=10))


def jpeg(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG")
    return buffer.getvalue()


def write_pictures(folder, names, seed=0, channels=3):
    rng = np.random.default_rng(seed)
    for name in names:
        files.save(Picture(rng.integers(0, 256, (8, 8, channels)).astype(np.uint8)), folder / name)


def sizes(modality, source):
    return [len(modality.dataset(source, split)) for split in SPLITS]


def test_digits_are_split_without_overlap():
    parts = {split: DIGITS.dataset(DataSource(name="digits"), split) for split in SPLITS}
    assert [len(p) for p in parts.values()] == [1438, 179, 180]
    contents = [{bytes(p.item(i).array) for i in range(len(p))} for p in parts.values()]
    assert sum(map(len, contents)) == len(set.union(*contents)) == 1797
    train = parts["train"]
    assert set(train.labels.tolist()) == set(range(10))
    assert train.class_names == tuple("0123456789")
    x = train.tensor(0, None)
    assert x.shape == (1, 8, 8)
    assert set(((x + 1) * 127.5).round().unique().tolist()) <= {float(round(v * 255 / 16)) for v in range(17)}


def test_named_sets_say_whose_they_are_and_folders_do_not(tmp_path):
    for modality in (DIGITS, ImageModality(ImageSettings(size=8, channels=1, classes=0))):
        train = modality.dataset(DataSource(name="digits"), "train")
        assert train.licence == "CC-BY-4.0"
        assert "Alpaydin" in train.attribution
    write_pictures(tmp_path, [f"{i}.png" for i in range(6)], channels=1)
    mine = ImageModality(ImageSettings(size=8, channels=1)).dataset(DataSource(name="folder", root=tmp_path), "train")
    assert (mine.licence, mine.attribution) == ("", "")


def test_another_seed_splits_otherwise():
    same = [DIGITS.dataset(DataSource(name="digits"), "test").names for _ in range(2)]
    other = DIGITS.dataset(DataSource(name="digits", options={"split_seed": 1}), "test").names
    assert same[0] == same[1] != other


def test_a_model_without_classes_is_told_none():
    plain = ImageModality(ImageSettings(size=8, channels=1))
    data = plain.dataset(DataSource(name="digits"), "val")
    assert set(data.labels.tolist()) == {-1}
    assert data.class_names == ()


@pytest.mark.parametrize(
    ("settings", "source", "told"),
    [
        ({"size": 32, "channels": 3}, {"name": "digits"}, "pictures of 8 x 8 with 1 channel"),
        ({"size": 8, "channels": 1, "classes": 3}, {"name": "digits"}, "10 classes; expected modality.classes = 3"),
        ({}, {"name": "digitz"}, "did you mean 'digits'"),
        ({}, {"name": "digits", "options": {"flipp": True}}, "did you mean 'flip'"),
        ({}, {"name": "cifar10-jpeg", "root": "/nowhere"}, "/nowhere does not exist"),
    ],
)
def test_mistakes_are_told(settings, source, told):
    with pytest.raises(UserError, match=told):
        ImageModality(ImageSettings(**settings)).dataset(DataSource(**source), "train")


@pytest.mark.parametrize("variable", [None, ""])
def test_no_root_at_all_is_told(monkeypatch, variable):
    """An empty variable names no folder; it is not the one that the command runs in."""
    monkeypatch.delenv("CMMULTI_DATA", raising=False)
    if variable is not None:
        monkeypatch.setenv("CMMULTI_DATA", variable)
    with pytest.raises(UserError, match=r"set data\.root or the variable CMMULTI_DATA"):
        ImageModality(ImageSettings()).dataset(DataSource(name="folder"), "train")


@pytest.fixture
def cifar(tmp_path):
    """Two archives of 40 and 12 pictures; one of the training pictures occurs twice there, another in the test part."""
    rng = np.random.default_rng(0)
    pictures = [jpeg(np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)) for _ in range(50)]
    folder = tmp_path / "cifar10-jpeg"
    folder.mkdir()
    for name, chosen in (("train", [*range(38), 5, 40]), ("test", range(40, 50))):
        parts = [pictures[i] for i in chosen]
        offsets = np.cumsum([0, *map(len, parts)])
        labels = np.arange(len(parts), dtype=np.uint8) % 10
        data = np.frombuffer(b"".join(parts), np.uint8)
        np.savez(folder / f"cifar10_{name}_jpeg.npz", jpeg=data, offsets=offsets, labels=labels)
    return tmp_path


def test_cifar_drops_duplicates_within_and_across_parts(cifar):
    modality = ImageModality(ImageSettings(classes=10))
    source = DataSource(name="cifar10-jpeg", root=cifar, options={"val": 8})
    assert sizes(modality, source) == [30, 8, 10]
    contents = [
        {bytes(data.item(i).array) for i in range(len(data))}
        for data in (modality.dataset(source, split) for split in SPLITS)
    ]
    assert sum(map(len, contents)) == len(set.union(*contents))


def test_flip_mirrors_half_of_the_training_pictures_and_no_others(cifar):
    modality = ImageModality(ImageSettings())
    source = DataSource(name="cifar10-jpeg", root=cifar, options={"val": 8, "flip": True})
    train = modality.dataset(source, "train")
    plain = train.tensor(0, None)
    generator = torch.Generator().manual_seed(0)
    drawn = [train.tensor(0, generator) for _ in range(64)]
    mirrored = sum(torch.equal(x, plain.flip(-1)) for x in drawn)
    assert mirrored + sum(torch.equal(x, plain) for x in drawn) == 64
    assert 16 < mirrored < 48
    test = modality.dataset(source, "test")
    assert all(torch.equal(test.tensor(0, generator), test.tensor(0, None)) for _ in range(8))


@pytest.mark.parametrize("damage", ["cut", "offsets", "text", "label", "size"])
def test_a_damaged_archive_is_told(cifar, damage):
    path = cifar / "cifar10-jpeg" / "cifar10_test_jpeg.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    if damage == "offsets":
        np.savez(path, **(arrays | {"offsets": arrays["offsets"] * 2}))
    elif damage == "label":
        np.savez(path, **(arrays | {"labels": arrays["labels"] + 10}))
    elif damage == "size":
        small = jpeg(np.zeros((16, 16, 3), np.uint8))
        np.savez(path, jpeg=np.frombuffer(small, np.uint8), offsets=np.array([0, len(small)]), labels=np.zeros(1, np.uint8))
    else:
        path.write_bytes(path.read_bytes()[:500] if damage == "cut" else b"no archive")
    with pytest.raises(UserError, match="cifar10_test_jpeg"):
        ImageModality(ImageSettings()).dataset(DataSource(name="cifar10-jpeg", root=cifar), "test")


def folder_source(root, **more):
    return DataSource(name="folder", root=root, **more)


def test_a_folder_is_split_by_a_seed_without_duplicates(tmp_path):
    write_pictures(tmp_path, [f"{i:02d}.png" for i in range(20)])
    write_pictures(tmp_path, ["again.png"])  # the first picture once more
    modality = ImageModality(ImageSettings(size=8))
    assert sizes(modality, folder_source(tmp_path)) == [16, 2, 2]
    assert modality.dataset(folder_source(tmp_path), "train").class_names == ()


def test_class_folders_become_classes(tmp_path):
    write_pictures(tmp_path, [f"dog/{i}.png" for i in range(10)] + [f"cat/{i}.png" for i in range(10)])
    modality = ImageModality(ImageSettings(size=8, classes=2))
    train = modality.dataset(folder_source(tmp_path), "train")
    assert train.class_names == ("cat", "dog")
    for name, label in zip(train.names, train.labels.tolist(), strict=True):
        assert f"/{train.class_names[label]}/" in name


def test_given_splits_are_kept_and_missing_ones_drawn(tmp_path):
    write_pictures(tmp_path, [f"train/{c}/{i}.png" for c in "ab" for i in range(10)])
    write_pictures(tmp_path, [f"test/{c}/{i}.png" for c in "ab" for i in range(3)], seed=1)
    modality = ImageModality(ImageSettings(size=8, classes=2))
    assert sizes(modality, folder_source(tmp_path)) == [18, 2, 6]
    assert all("/test/" in name for name in modality.dataset(folder_source(tmp_path), "test").names)


def test_pictures_of_other_sizes_channels_and_depths_come_to_the_models(tmp_path):
    rng = np.random.default_rng(0)
    for i, (shape, dtype) in enumerate([((20, 9, 3), np.uint8), ((8, 8, 1), np.uint16), ((5, 30, 1), np.uint8)] * 4):
        picture = Picture(rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype))
        files.save(picture, tmp_path / f"{i}.png")
    data = ImageModality(ImageSettings(size=(8, 12), channels=1)).dataset(folder_source(tmp_path), "train")
    assert data.tensor(0, None).shape == (1, 8, 12)
    assert data.item(0).array.dtype == np.uint16


def test_a_zip_archive_is_read_in_place(tmp_path):
    write_pictures(tmp_path / "set", [f"{c}/{i}.png" for c in "ab" for i in range(10)])
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("__MACOSX/set/a/._0.png", b"junk")
        archive.writestr("set/readme.txt", b"words")
    modality = ImageModality(ImageSettings(size=8, classes=2))
    from_zip = modality.dataset(folder_source(tmp_path / "set.zip"), "train")
    from_folder = modality.dataset(folder_source(tmp_path / "set"), "train")
    assert np.array_equal(from_zip.array, from_folder.array)
    assert torch.equal(from_zip.labels, from_folder.labels)
    assert "set.zip:set/a/" in from_zip.names[0]


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a\\..\\x.png"])
def test_a_member_that_points_outside_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(UserError, match="points outside the archive"):
        ImageModality(ImageSettings()).dataset(folder_source(tmp_path / "x.zip"), "train")


def test_damaged_archives_are_told(tmp_path):
    write_pictures(tmp_path, ["a.png"])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    good = (tmp_path / "x.zip").read_bytes()
    for bad in (good[:60], good[:50] + b"\0\0\0" + good[53:], b""):
        (tmp_path / "x.zip").write_bytes(bad)
        with pytest.raises(UserError, match=r"x\.zip"):
            ImageModality(ImageSettings(size=8)).dataset(folder_source(tmp_path / "x.zip"), "train")


@pytest.mark.parametrize("packed", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_an_archive_is_told(tmp_path, packed):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("a.png", bytes(range(256)) * 40)
    damaged = bytearray(path.read_bytes())
    damaged[60:66] = b"\xff\xa5\x5a\xff\x01\xee"
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"x\.zip:a\.png: damaged in its archive"):
        ImageModality(ImageSettings(size=8)).dataset(folder_source(path), "train")


def test_one_bad_file_stops_or_is_named_and_skipped(tmp_path, caplog):
    write_pictures(tmp_path, [f"{i}.png" for i in range(10)])
    (tmp_path / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    modality = ImageModality(ImageSettings(size=8))
    with pytest.raises(UserError, match=r"3\.png"):
        modality.dataset(folder_source(tmp_path), "train")
    with caplog.at_level(logging.WARNING, "cmmulti"):
        assert sum(sizes(modality, folder_source(tmp_path, on_bad_file="skip"))) == 9
    assert "3.png" in caplog.text


def test_a_folder_with_nothing_readable_is_told(tmp_path):
    modality = ImageModality(ImageSettings(size=8))
    with pytest.raises(UserError, match="no picture found"):
        modality.dataset(folder_source(tmp_path), "train")
    (tmp_path / "x.png").write_bytes(b"junk")
    with pytest.raises(UserError, match="none of its 1 picture files can be read"):
        modality.dataset(folder_source(tmp_path, on_bad_file="skip"), "train")


def test_a_division_is_complete():
    parts = divide(101, 3, 0.1, 0.2)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(101))
    assert [len(parts[s]) for s in SPLITS] == [71, 10, 20]
