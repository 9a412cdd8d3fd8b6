from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from cmmulti.conditioning import NULL_LABEL
from cmmulti.errors import UserError
from cmmulti.modality import DataSource
from modalities.audio.modality import AudioModality


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """An archive of 2 speakers x 2 digits x 12 takes, one of them twice."""
    draws = np.random.default_rng(0)
    clips, rows = [], []
    for speaker in range(2):
        for digit in range(2):
            for take in range(12):
                length = 6000 if take == 7 else int(draws.integers(1000, 3000))
                clips.append(np.rint(4000 * draws.standard_normal(length)).clip(-32768, 32767).astype(np.int16))
                rows.append((digit, speaker, take))
    clips[1 * 12 + 8] = clips[0 * 12 + 9]
    labels, speakers, takes = (np.array(c, np.uint8) for c in zip(*rows, strict=True))
    (tmp_path / "fsdd").mkdir()
    np.savez(
        tmp_path / "fsdd" / "fsdd.npz",
        audio=np.concatenate(clips), offsets=np.cumsum([0, *map(len, clips)]), labels=labels,
        speaker_ids=speakers, take=takes, official_test=takes < 5, names=np.array([f"{d}_{s}_{t}" for d, s, t in rows]),
        speaker_names=np.array(["a", "b"]), sample_rate=np.array([8000]),
    )  # fmt: skip
    return tmp_path


def source(root: Path, name: str = "fsdd", **more: object) -> DataSource:
    return DataSource(name=name, root=root, **more)


def test_splits_hold_whole_takes_and_no_duplicate(modality: AudioModality, digits: Path) -> None:
    found = {s: modality.dataset(source(digits, options={"joined": 0}), s) for s in ("train", "val", "test")}
    takes = {s: {n.split("_")[2] for n in d.names} for s, d in found.items()}
    assert takes["test"] == {"0", "1", "2", "3", "4"}
    assert len(takes["val"]) == 2
    assert not takes["val"] & takes["train"]
    assert sum(map(len, found.values())) == 47
    data = [
        modality.dataset(source(digits), s).item(i).samples.tobytes() for s in ("val", "test") for i in range(len(found[s]))
    ]
    assert len(set(data)) == len(data)


def test_windows_of_joined_takes_carry_no_label(modality: AudioModality, digits: Path) -> None:
    train = modality.dataset(source(digits, options={"joined": 0.5}), "train")
    assert (train.labels == NULL_LABEL).float().mean() == 0.5
    assert bool((train.labels[: len(train) // 2] >= 0).all())
    assert modality.dataset(source(digits), "test").labels.min() >= 0


@pytest.mark.parametrize("index", [0, -1])
def test_tensors_follow_the_generator(modality: AudioModality, digits: Path, index: int) -> None:
    train = modality.dataset(source(digits), "train")
    index %= len(train)

    def draw(seed: int | None) -> torch.Tensor:
        return train.tensor(index, None if seed is None else torch.Generator().manual_seed(seed))

    assert draw(1).shape == modality.shape
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(draw(None), draw(None))
    torch.testing.assert_close(draw(None), modality.encode(train.item(index))[0], atol=0.02, rtol=0)


def test_gains_never_pass_full_scale(digits: Path, modality: AudioModality) -> None:
    train = modality.dataset(source(digits, options={"gain_db": 60}), "train")
    high = max(float(train.tensor(0, torch.Generator().manual_seed(s)).max()) for s in range(20))
    assert high < modality.valid_range[1]


def test_a_missing_or_damaged_archive_is_refused(modality: AudioModality, tmp_path: Path, digits: Path) -> None:
    with pytest.raises(UserError, match=r"fsdd\.npz: not found"):
        modality.dataset(source(tmp_path / "none"), "train")
    path = digits / "fsdd" / "fsdd.npz"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(UserError, match=r"fsdd\.npz"):
        modality.dataset(source(digits), "train")


def test_unknown_names_and_options_are_refused(
    modality: AudioModality, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="unknown audio data set 'fsd'; did you mean 'fsdd'"):
        modality.dataset(source(digits, "fsd"), "train")
    with pytest.raises(UserError, match=r"data\.options: unknown key 'joind' \(did you mean 'joined'\?\)"):
        modality.dataset(source(digits, options={"joind": 0.5}), "train")
    with pytest.raises(UserError, match=r"data\.options: joined = 2: .*less than 1"):
        modality.dataset(source(digits, options={"joined": 2}), "train")
    monkeypatch.delenv("CMMULTI_DATA", raising=False)
    with pytest.raises(UserError, match=r"data\.root"):
        modality.dataset(DataSource(name="fsdd"), "train")


@pytest.fixture
def folder(tmp_path: Path, voice) -> Path:
    for i, (name, rate, channels) in enumerate(
        [("cat/a.wav", 8000, 1), ("cat/b.flac", 44100, 2), ("dog/c.ogg", 16000, 1), ("dog/deep/d.wav", 22050, 2)]
    ):
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, voice(rate, 0.3 + 0.3 * i, channels, seed=i), rate)
    return tmp_path / "sounds"


ALL = {"val": 0, "test": 0}


def test_class_folders_give_labels(modality: AudioModality, folder: Path) -> None:
    train = modality.dataset(source(folder, "folder", options=ALL), "train")
    assert train.labels.tolist() == [0, 0, 1, 1]
    for index in range(4):
        x = train.tensor(index, torch.Generator().manual_seed(0))
        assert x.shape == modality.shape
        assert bool(torch.isfinite(x).all())
    assert train.item(1).rate == 44100


def test_hidden_files_and_folders_are_no_clips(modality: AudioModality, folder: Path) -> None:
    for name in ("cat/._a.wav", ".trash/e.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not a sound")
    train = modality.dataset(source(folder, "folder", options=ALL), "train")
    assert len(train) == 4
    assert train.class_names == ["cat", "dog"]


@pytest.mark.parametrize(
    ("name", "kind"), [("e.aiff", "AIFF"), ("e.AIF", "AIFF"), ("e.w64", "W64"), ("e.caf", "CAF"), ("e.au", "AU")]
)
def test_a_folder_is_read_in_every_format_that_an_edit_reads(
    modality: AudioModality, tmp_path: Path, voice, name: str, kind: str
) -> None:
    sf.write(tmp_path / name, voice(8000, 0.5), 8000, format=kind, subtype="PCM_16")
    assert len(modality.dataset(source(tmp_path, "folder", options=ALL), "train")) == 1


def test_every_file_is_in_one_split(modality: AudioModality, folder: Path) -> None:
    options = {"val": 0.25, "test": 0.25}
    names = [
        n for s in ("train", "val", "test") for n in modality.dataset(source(folder, "folder", options=options), s).names
    ]
    assert len(names) == len(set(names)) == 4


def test_a_manifest_gives_paths_labels_and_splits(modality: AudioModality, folder: Path) -> None:
    (folder / "list.csv").write_text("path,label,split\ncat/b.flac,two,train\ncat/a.wav,one,train\ndog/c.ogg,,test\n")
    options = {"manifest": "list.csv"}
    train = modality.dataset(source(folder, "folder", options=options), "train")
    assert train.labels.tolist() == [1, 0]
    assert modality.dataset(source(folder, "folder", options=options), "test").labels.tolist() == [NULL_LABEL]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,label\na,b\n", "expected a column path"),
        ("path\n", "lists no files"),
        ("path,split\na.wav,dev\n", "line 2"),
        ("path,split\ncat/a.wav,train\ncat/b.flac,test\ndog/c.ogg,\n", "line 4: no split, though line 2 has one"),
        ("path,split\ncat/a.wav,\ncat/b.flac,test\n", "line 2: no split, though line 3 has one"),
        ("path,label\ncat/a.wav,a, b\n", r"line 2: expected 2 values, as many as columns"),
        ("path\ncat/a.wav\ncat/b.flac\ndog/../cat/a.wav\n", r"line 4: .*a\.wav is on line 2 already"),
    ],
)
def test_a_wrong_manifest_is_refused(modality: AudioModality, folder: Path, text: str, told: str) -> None:
    (folder / "list.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        modality.dataset(source(folder, "folder", options={"manifest": "list.csv"}), "train")


def test_a_bad_file_is_named_and_skipped_only_if_asked(modality: AudioModality, folder: Path) -> None:
    (folder / "cat" / "a.wav").write_bytes(b"RIFF....WAVE")
    with pytest.raises(UserError, match=r"cat/a\.wav: .*on_bad_file: skip"):
        modality.dataset(source(folder, "folder", options=ALL), "train")
    train = modality.dataset(source(folder, "folder", options=ALL, on_bad_file="skip"), "train")
    assert len(train) == 3
    assert train.labels.tolist() == [0, 1, 1]


def test_a_folder_with_nothing_to_read_is_refused(modality: AudioModality, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sound files"):
        modality.dataset(source(tmp_path, "folder"), "train")
    with pytest.raises(UserError, match="no such folder"):
        modality.dataset(source(tmp_path / "none", "folder"), "train")


def test_a_model_without_classes_takes_classes_as_no_label(digits: Path, tmp_path: Path) -> None:
    plain = AudioModality(AudioModality.Settings(classes=0))
    for name in ("dogs", "cats"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        sf.write(tmp_path / "pets" / name / "a.wav", np.zeros(800), 8000)
    held_out = {"val": 0, "test": 0}
    for found in (
        plain.dataset(source(digits), "train"),
        plain.dataset(source(tmp_path / "pets", "folder", options=held_out), "train"),
    ):
        assert set(found.labels.tolist()) == {NULL_LABEL}
        assert list(found.class_names) == []
    assert len(found) == 2
