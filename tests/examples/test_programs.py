"""The example programs run as they stand."""

from __future__ import annotations

import runpy
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from cmmulti import registry
from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.folder import Piece

EXAMPLES = Path(__file__).parents[2] / "examples"


def model(folder: Path, modality: str, settings: dict[str, object], network: dict[str, object]) -> Path:
    """An untrained pipeline's folder."""
    config = PipelineConfig(
        modality=Piece(name=modality, settings=settings),
        network=Piece(name="unet", settings={"in_channels": 1, "channels": [8, 16], **network}),
        parameterization=Piece(name="edm", settings={"sigma_data": 0.5}),
        role="consistency",
    )
    torch.manual_seed(0)
    pipe = Pipeline(config.build_model(), registry.load("modalities", modality)(config.build_modality().settings), config)
    return pipe.save_pretrained(folder)


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model(tmp_path / "model", "image", {"size": [8, 8], "channels": 1}, {})
    run(monkeypatch, "sample.py", folder, "--n", 2, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "2-steps" / "index.html").is_file()
    difference = float(capsys.readouterr().out.split()[-1])
    assert difference < 1e-5


def test_write_a_solver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model(tmp_path / "model", "image", {"size": [8, 8], "channels": 1}, {})
    run(monkeypatch, "write_a_solver.py", folder, "--out", tmp_path / "out")
    told = {line.split()[0]: float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()}
    assert (tmp_path / "out" / "landweber.png").is_file()
    # A block mean's rows are orthogonal and equally long: one gradient step is the projection.
    assert told["Landweber"] == pytest.approx(told["Replacement"], abs=1e-4)


def test_inpaint_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model(tmp_path / "model", "audio", {"mean": -8.9, "std": 2.8, "level": 0.04}, {"dims": 2})
    clip = Path(str(files("modalities.audio") / "inputs" / "digit-7-george.wav"))
    run(
        monkeypatch,
        "inpaint_clip.py",
        folder,
        clip,
        "--start",
        0.1,
        "--end",
        0.2,
        "--samples",
        1,
        "--out",
        tmp_path / "out",
    )
    told = capsys.readouterr().out
    assert "changed 0.1" in told
    assert "silence" in told
