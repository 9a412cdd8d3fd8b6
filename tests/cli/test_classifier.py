"""``cmmulti classifier``: from a run config to a feature network, and into a run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]

CONFIG = "configs/image/digits-edm.yaml"
SMALL = ("--set", "network={name: unet, channels: [8], blocks: 1, attention: []}", "--set", "data.batch_size=8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifier") / "digits"


def test_a_classifier_is_trained_and_serves_as_distance(cmmulti: Run, folder: Path, tmp_path: Path) -> None:
    told = cmmulti("classifier", CONFIG, "--out", folder, "--steps", 40)
    assert told.code == 0, told.err
    about = json.loads((folder / "classifier.json").read_text())
    assert about["shape"] == [1, 8, 8]
    assert about["data"]["name"] == "digits"
    assert about["accuracy"] > 0.5  # ten classes; chance is 0.1
    assert f"{100 * about['accuracy']:.1f} % of {about['heldout']} held-out items" in told.out
    method = f"method={{name: ct, distance: {{name: classifier, path: {json.dumps(str(folder))}}}}}"
    run = ("train", CONFIG, *SMALL, "--set", method, "--set", "trainer.max_steps=3", "--set", "preview.every_steps=0")
    told = cmmulti(*run, "--set", "validation.every_steps=0", "--out", tmp_path / "run")
    assert told.code == 0, told.err
    assert str(folder) in (tmp_path / "run" / "config.yaml").read_text()
    told = cmmulti("inspect", folder)
    assert told.code == 0, told.err
    assert "classifier of digits" in told.out


def test_nothing_is_overwritten(cmmulti: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    told = cmmulti("classifier", CONFIG, "--out", tmp_path)
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert f"{tmp_path}: exists and is not an empty folder" in told.err


def test_a_place_that_cannot_be_written_is_refused_before_the_training(cmmulti: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = cmmulti("classifier", CONFIG, "--out", tmp_path / "file" / "x", "--steps", 1)
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert "x: cannot be written" in told.err


def test_data_without_labels_are_refused(cmmulti: Run, tmp_path: Path) -> None:
    data = tmp_path / "pictures"
    data.mkdir()
    for i in range(4):
        Image.fromarray(np.full((8, 8), 60 * i, np.uint8)).save(data / f"{i}.png")
    plain = ("--set", f"data={{name: folder, root: {json.dumps(str(data))}}}", "--set", "modality.classes=0")
    told = cmmulti("classifier", CONFIG, *plain, "--out", tmp_path / "out")
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "0 items with a label; a classifier expects 16 or more" in told.err
    assert not (tmp_path / "out").exists()


def test_a_joint_config_is_refused(cmmulti: Run, tmp_path: Path) -> None:
    told = cmmulti("classifier", "configs/joint/digits-edm.yaml", "--out", tmp_path / "out")
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "a classifier is of one modality" in told.err


def test_data_that_hold_nothing_back_leave_the_accuracy_open(cmmulti: Run, tmp_path: Path) -> None:
    data = two_classes(tmp_path / "pictures")
    told = cmmulti("classifier", CONFIG, *data, "--set", "data.options={val: 0}", "--out", tmp_path / "x", "--steps", 2)
    assert told.code == 0, told.err
    assert "held-out" not in told.out
    about = json.loads((tmp_path / "x" / "classifier.json").read_text())
    assert (about["accuracy"], about["heldout"]) == (None, 0)


def test_a_train_part_that_holds_nothing_is_refused(cmmulti: Run, tmp_path: Path) -> None:
    data = two_classes(tmp_path / "pictures" / "test")
    shutil.copytree(tmp_path / "pictures" / "test", tmp_path / "pictures" / "train")  # whose every picture is held out
    told = cmmulti("classifier", CONFIG, *data, "--out", tmp_path / "x")
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "train part holds nothing" in told.err


def two_classes(folder: Path) -> tuple[str, ...]:
    """Twenty pictures of noise in each of two folders, and what a config says of ``pictures``, in which they lie."""
    rng = np.random.default_rng(0)
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / label / f"{i}.png")
    root = next(p for p in (folder, *folder.parents) if p.name == "pictures")
    return ("--set", f"data={{name: folder, root: {json.dumps(str(root))}}}", "--set", "modality.classes=2")
