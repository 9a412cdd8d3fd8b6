"""Made-up voices, and an untrained model of half a second."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.folder import Piece
from modalities.audio.modality import AudioModality
from modalities.audio.settings import AudioSettings, MelSettings

SCALE = {"mean": -8.9, "std": 2.8, "level": 0.037}
SETTINGS = AudioSettings(samples=4000, mel=MelSettings(mels=32), iterations=8, **SCALE)


def voice_of(rate: int, seconds: float, channels: int = 1, seed: int = 0) -> NDArray[np.float64]:
    """(frames, channels): harmonics of a gliding tone, a little noise, a level that swells; peak 0.5."""
    draws = np.random.default_rng(seed)
    t = np.arange(round(rate * seconds)) / rate
    phase = 2 * np.pi * (110 * t + 8 * np.sin(3 * t))
    voiced = sum(np.sin(k * phase + draws.uniform(0, 6)) / k for k in range(1, 16) if k * 130 < 0.45 * rate)
    wave = (voiced * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * t)))[:, None] + 0.05 * draws.standard_normal((len(t), channels))
    wave = wave * (1 + 0.2 * np.arange(channels))
    return np.asarray(0.5 * wave / np.abs(wave).max())


@pytest.fixture(scope="session")
def voice() -> Callable[..., NDArray[np.float64]]:
    return voice_of


@pytest.fixture
def modality() -> AudioModality:
    return AudioModality(SETTINGS)


@pytest.fixture(scope="session")
def pipe() -> Pipeline:
    torch.manual_seed(0)
    config = PipelineConfig(
        name="tiny",
        modality=Piece(name="audio", settings=SETTINGS.model_dump()),
        network=Piece(name="unet", settings={"channels": [8, 16], "patch": 4, "classes": 10}),
        parameterization=Piece(name="edm", settings={"sigma_data": 0.5}),
        role="consistency",
        classes=[str(i) for i in range(10)],
    )
    model = config.build_model()
    for parameter in model.network.parameters():  # not the zeros that a network starts with
        torch.nn.init.normal_(parameter, std=0.1)
    return Pipeline(model.eval(), config.build_modality(), config)
