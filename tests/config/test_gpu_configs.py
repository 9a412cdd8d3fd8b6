"""Presets for a GPU are of the size that they say, and ready to train, as a dry run of a small network finds."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cmmulti import registry
from cmmulti.config import RunConfig, resolve
from cmmulti.config.text import read_yaml, with_overrides
from cmmulti.pipeline import Pipeline
from cmmulti.training.build import build, pipeline_config
from cmmulti.training.dry_run import dry_run

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = sorted(CONFIGS.glob("*/*-gpu.yaml"))
SMALL = ("network.channels=[8, 8, 8]", "network.blocks=1", "network.heads=1", "network.groups=8", "data.batch_size=2")
"""The same run with a network of a second."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures and one of clips, each named after its modality."""
    root = tmp_path_factory.mktemp("files")
    draw = np.random.default_rng(0)
    for folder in ("image", "audio"):
        (root / folder).mkdir()
    for i in range(12):
        Image.fromarray(draw.integers(0, 255, (32, 32, 3), np.uint8)).save(root / "image" / f"{i}.png")
        with wave.open(str(root / "audio" / f"{i}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(44100)
            file.writeframes(draw.integers(-9000, 9000, 44100, np.int16).tobytes())
    return root


def config(path: Path, *sets: str) -> RunConfig:
    return resolve(with_overrides(read_yaml(path), sets))


def small(path: Path, files: Path, *sets: str) -> RunConfig:
    """The preset with a network of a second, on the files of its modality."""
    return config(path, *SMALL, f"data.root={files / path.parent.name}", *sets)


@pytest.fixture(scope="module")
def teachers(files: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each teacher's preset would export, untrained, by the beginning of its name."""
    folders = {}
    for path in (p for p in PRESETS if p.stem.endswith("-edm-gpu")):
        parts = build(small(path, files))
        settings = pipeline_config(parts.config, parts.method, parts.shares[0], [])
        kind = path.stem.removesuffix("-edm-gpu")
        out = tmp_path_factory.mktemp("models") / kind
        folders[kind] = Pipeline(parts.model, parts.modality, settings).save_pretrained(out)
    return folders


def test_the_presets_are_here() -> None:
    names = {f"pictures-{m}-gpu" for m in ("edm", "ect", "ict", "sct", "scd", "meanflow")}
    names |= {f"sound-{rate}-{m}-gpu" for rate in ("16khz", "22khz", "44khz") for m in ("edm", "ect")}
    assert {path.stem for path in PRESETS} == names


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_a_preset_is_ready_to_train(path: Path, files: Path, teachers: dict[str, Path]) -> None:
    kind, method = path.stem.removesuffix("-gpu").rsplit("-", 1)
    start = [f"init={teachers[kind]}"] if f"--init {kind.split('-')[0]}-teacher" in path.read_text() else []
    assert bool(start) == (method in ("ect", "sct", "scd"))
    told = dry_run(small(path, files, *start))
    assert "first loss" in told
    assert "nan" not in told


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_a_preset_has_the_size_that_it_says(path: Path) -> None:
    network = config(path).network
    with torch.device("meta"):
        count = sum(p.numel() for p in registry.load("networks", network.name)(**network.settings).parameters())
    if path.parent.name == "image":
        assert 50e6 < count < 60e6
    else:
        assert 25e6 < count < 35e6
