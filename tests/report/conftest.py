"""Small pictures and sounds, and a folder that shows them."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmmulti.media import Picture, Player
from cmmulti.report import Output, ResultFolder, Results, Section, Table


def png(height: int = 8, width: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(height * width, dtype=np.uint8).reshape(height, width)).save(stream, "PNG")
    return stream.getvalue()


def wav() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    return stream.getvalue()


@pytest.fixture
def sections() -> list[Section]:
    pictures = [Picture(png(), f"seed {i}", pixelated=True, width=64) for i in range(3)]
    player = Player(wav(), "a <clip> & more", Picture(png(20, 900), "spectrogram"))
    table = Table(caption="By steps", columns=["steps", "psnr", "odd_thing"], rows=[[1, 20.5, "x"], [2, None, "y"]])
    return [Section("Samples", "One.\n\nTwo.", pictures), Section("Sounds", media=[player], tables=[table])]


@pytest.fixture
def make(sections: list[Section]) -> Callable[..., Path]:
    def make(folder: Path, overwrite: bool = False, **more: object) -> Path:
        with ResultFolder(folder, overwrite) as target:
            (target.path / "sample-0.png").write_bytes(png())
            given = {
                "command": "cmmulti sample m --out x",
                "model": "m",
                "task": "sample",
                "nfe": 2,
                "seconds": 1.5,
                "outputs": [Output(file="sample-0.png", seed=0)],
                **more,
            }
            target.write(Results.model_validate(given), sections)
        return folder

    return make
