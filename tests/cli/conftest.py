"""An untrained model of 8 x 8 pictures in a folder, a picture, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from cmmulti.cli import main
from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.folder import Piece


class Answer(NamedTuple):
    """What a command came back with."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = PipelineConfig(
        name="tiny",
        modality=Piece(name="image", settings={"size": [8, 8], "channels": 1, "classes": 3}),
        network=Piece(name="unet", settings={"in_channels": 1, "channels": [8], "classes": 3}),
        parameterization=Piece(name="edm", settings={"sigma_data": 0.5}),
        role="consistency",
        classes=["zero", "one", "two"],
    )
    torch.manual_seed(0)
    made = config.build_model()
    for parameter in made.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    pipe = Pipeline(made.eval(), config.build_modality(), config, "# A tiny model\n")
    return pipe.save_pretrained(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(path)
    return path


@pytest.fixture
def cmmulti(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def run(*words: object) -> Answer:
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Answer(code, *capsys.readouterr())

    return run
