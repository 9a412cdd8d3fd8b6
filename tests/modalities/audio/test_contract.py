from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from cmmulti.testing.modalities import ModalityCase, check_modality
from modalities.audio.modality import AudioModality
from modalities.audio.settings import AudioSettings


def test_the_modality_contract_holds(tmp_path: Path, voice) -> None:
    path = tmp_path / "clip.wav"
    sf.write(path, voice(8000, 1.0), 8000)
    check_modality(ModalityCase(AudioModality(AudioSettings(mean=-8.9, std=2.8, level=0.037)), path, error=0.05))


def test_facts_of_a_file(tmp_path: Path, modality: AudioModality) -> None:
    sf.write(tmp_path / "clip.flac", np.tile([0.25, -0.5], (8000, 1)), 16000, subtype="PCM_24")
    assert modality.describe(tmp_path / "clip.flac") == {
        "format": "FLAC, PCM_24",
        "seconds": 0.5,
        "frames": 8000,
        "rate": 16000,
        "channels": 2,
        "peak": pytest.approx(0.5),
    }
