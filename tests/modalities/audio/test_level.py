"""What the training data decide: mean, deviation and level of an audio model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from cmmulti.config import resolve, to_yaml
from cmmulti.errors import UserError
from cmmulti.pipeline import Pipeline
from cmmulti.training import folder
from cmmulti.training.build import build, pipeline_config
from modalities.audio.level import active_level


@pytest.fixture
def clips(tmp_path: Path, voice) -> Path:
    for i in range(6):
        sf.write(tmp_path / f"{i}.wav", 0.1 * voice(16000, 0.8, seed=i), 16000, subtype="FLOAT")
    return tmp_path


def config(clips: Path, **modality: object) -> dict[str, object]:
    mel = {"rate": 16000, "n_fft": 512, "win": 512, "hop": 256, "mels": 32, "fmax": 8000.0}
    return {
        "modality": {"name": "audio", "mel": mel, "samples": 16000, "classes": 0, **modality},
        "data": {"name": "folder", "root": str(clips), "batch_size": 2, "options": {"gain_db": 0}},
        "network": {"channels": [8, 16], "patch": 4},
        "method": {"name": "edm"},
        "trainer": {"max_steps": 1},
    }


def test_open_numbers_are_measured_and_standardise_the_training_set(clips: Path) -> None:
    parts = build(resolve(config(clips)))
    settings = parts.modality.settings
    x = torch.stack([parts.examples.source.tensor(i, None) for i in range(len(parts.examples))])
    assert float(x.mean()) == pytest.approx(0, abs=0.05)
    assert float(x.std()) == pytest.approx(0.5, rel=0.05)
    wave = torch.from_numpy(sf.read(clips / "0.wav")[0])
    assert settings.level == pytest.approx(float(wave.square().mean().sqrt()), rel=0.3)
    assert parts.config.modality.settings["mean"] == settings.mean


def test_given_numbers_stay(clips: Path) -> None:
    settings = build(resolve(config(clips, mean=-7.0, level=0.5))).modality.settings
    assert (settings.mean, settings.level) == (-7.0, 0.5)
    assert settings.std is not None


def test_a_resumed_run_keeps_what_it_measured(clips: Path, tmp_path: Path) -> None:
    open_, parts = resolve(config(clips)), build(resolve(config(clips)))
    run = tmp_path / "run"
    run.mkdir()
    (run / folder.CONFIG).write_text(to_yaml(parts.config.model_dump(mode="json")))
    sf.write(clips / "6.wav", 0.9 * np.sin(np.arange(16000)), 16000)  # other data would give other numbers
    assert folder.same_run(run, open_).modality == parts.config.modality


def test_a_student_takes_its_teachers_numbers(clips: Path, tmp_path: Path) -> None:
    parts = build(resolve(config(clips, mean=-7.0, std=2.0, level=0.5)))
    teacher = Pipeline(parts.model, parts.modality, pipeline_config(parts.config, parts.method, parts.shares[0], []))
    teacher.save_pretrained(tmp_path / "teacher")
    student = build(resolve(config(clips) | {"method": {"name": "ect"}, "init": str(tmp_path / "teacher")}))
    assert student.modality.settings == parts.modality.settings


def test_silence_is_refused(tmp_path: Path) -> None:
    for i in range(3):
        sf.write(tmp_path / f"{i}.wav", np.zeros(16000), 16000)
    with pytest.raises(UserError, match="silent"):
        build(resolve(config(tmp_path)))


def test_level_leaves_silence_and_holes_out() -> None:
    wave = torch.zeros(8000)
    wave[2000:4000] = 0.5 * torch.sign(torch.sin(torch.arange(2000) * 0.3 + 0.1))
    known = torch.ones(8000, dtype=torch.bool)
    assert active_level(wave, known, 8000) == pytest.approx(0.5, rel=0.1)
    wave[2000:3000] = 0.1
    known[3000:4000] = False
    assert active_level(torch.where(known, wave, 0), known, 8000) == pytest.approx(0.1, rel=0.1)
