"""``cmmulti train`` and ``cmmulti export`` from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cmmulti.cli import main
from cmmulti.config import resolve


@pytest.fixture
def file(toy_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(toy_values))
    return path


def test_train_resume_and_export(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(file), "--set", "trainer.max_steps=2", "--set", "ema.export=raw"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "runs/toy\n"
    assert "items/s" in captured.err
    assert " left" in captured.err
    assert main(["train", str(file), "--set", "trainer.max_steps=2", "--set", "ema.export=raw", "--resume"]) == 0
    assert "all 2 steps are done" in capsys.readouterr().err
    assert main(["export", "runs/toy", "--out", "model"]) == 0
    assert sorted(p.name for p in Path("model").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert "`cmmulti train" in Path("model/README.md").read_text()
    assert main(["train", str(file), "--init", "model", "--out", "second", "--set", "trainer.max_steps=1"]) == 0


def test_resume_without_a_checkpoint_starts_at_step_0_and_says_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(file), "--out", "run", "--resume", "--set", "trainer.max_steps=1"]) == 0
    assert "no checkpoint; starting at step 0" in capsys.readouterr().err


def test_a_killed_writers_leftovers_are_removed(file: Path) -> None:
    words = ["train", str(file), "--out", "run", "--resume", "--set", "trainer.max_steps=4"]
    Path("run").mkdir()
    left = Path("run/.step-00000004-x1y2.ckpt")
    left.write_bytes(b"half")
    assert main(words) == 0
    assert not left.exists()
    assert Path("run/step-00000004.ckpt").is_file()


def test_the_data_root_of_the_command_line_is_that_of_the_run(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(file), "--dry-run", "--set", "data.root=a", "--data-root", "sets: 1"]) == 0
    *config, _ = capsys.readouterr().out.splitlines()
    assert resolve(yaml.safe_load("\n".join(config))).data.root == Path("sets: 1")


def test_dry_run_prints_the_resolved_config_and_writes_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(file), "--dry-run", "--set", "trainer.seed=7"]) == 0
    *config, summary = capsys.readouterr().out.splitlines()
    assert resolve(yaml.safe_load("\n".join(config))).trainer.seed == 7
    assert "37 examples" in summary
    assert list(Path().iterdir()) == [Path("toy.yaml")]
    assert main(["train", str(file), "--out", "run", "--set", "trainer.max_steps=1"]) == 0
    assert main(["train", str(file), "--out", "run", "--set", "trainer.seed=7", "--dry-run", "--resume"]) == 2
    assert "trainer.seed = 7, expected 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "none.yaml"],
        ["train", "toy.yaml", "--set", "trainer.max_stps=3"],
        ["train", "toy.yaml", "--set", "trainer"],
        ["train", "toy.yaml", "--out", "toy.yaml/run"],
        ["train", "toy.yaml", "--init", "nowhere"],
        ["export", "nowhere", "--out", "x"],
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(file: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert list(Path().iterdir()) == [Path("toy.yaml")]
