"""Models with contexts: samples follow them, students take them over, and the whole way on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cmmulti.cli import main
from cmmulti.config import RunConfig
from cmmulti.pipeline import Pipeline
from cmmulti.training.build import build
from cmmulti.training.export import export
from cmmulti.training.folder import read_record
from cmmulti.training.run import train

LEVELS = np.linspace(-3, 5, 37)


def table(levels: np.ndarray) -> str:
    return "file,level\n" + "".join(f"toy-{i}.bin,{v}\n" for i, v in enumerate(levels))


@pytest.fixture
def shifted(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each toy is N(level / 4, 0.1^2), so that the context says where its mean lies."""

    def tensor(self: Any, index: int, generator: torch.Generator | None) -> torch.Tensor:
        noise = torch.randn(1, self.length, generator=generator or torch.Generator().manual_seed(index))
        return float(LEVELS[index]) / 4 + 0.1 * noise

    monkeypatch.setattr(toy.ToySet, "tensor", tensor)


TEACHER = (
    "network={name: unet, channels: [16], groups: 4}",
    "data.batch_size=37",
    "trainer.max_steps=200",
    "optimizer={name: adam, learning_rate: 1e-2, decay: linear}",
    "preview.every_steps=0",
    "validation.every_steps=0",
    "log.every_steps=100",
    "label_dropout=0.2",
)


def means(pipe: Pipeline, steps: int, **how: Any) -> list[float]:
    """Mean of samples at levels -2 and 4, in data units, where -0.5 and 1 are right."""
    levels = pipe.levels(steps)
    return [float(pipe.generate(range(64), levels, context={"level": v}, **how).x.mean()) for v in (-2.0, 4.0)]


@pytest.mark.usefixtures("shifted")
def test_samples_follow_the_context_and_students_hear_it(toy_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    file = tmp_path / "contexts.csv"
    file.write_text(table(LEVELS))
    train(toy_config(*TEACHER, f"data.context={file}"), tmp_path / "run")
    teacher = export(tmp_path / "run", tmp_path / "teacher")
    low, high = means(teacher, 18)
    assert [low, high] == pytest.approx([-0.5, 1.0], abs=0.1)
    further = means(teacher, 18, guidance=3.0)
    assert further[0] < low - 0.01
    assert further[1] > high + 0.01
    free = teacher.generate(range(64), teacher.levels(18)).x.mean(dim=(1, 2))
    assert float(free.std()) == pytest.approx(LEVELS.std() / 4, rel=0.4)
    settings = ("method={name: cd, levels: 8}", "trainer.max_steps=60", f"init={tmp_path / 'teacher'}")
    student = toy_config(*TEACHER, *settings, f"data.context={file}")
    # A file with another mean and deviation: the same numbers must mean the same to teacher and student.
    file.write_text(table(2 * LEVELS + 1))
    assert build(student).scale == teacher.config.context
    file.write_text(table(LEVELS))
    train(student, tmp_path / "student")
    # Too short a training to be right, but not for answers to differ as they should in sign.
    low, high = means(export(tmp_path / "student", tmp_path / "out"), 1)
    assert high > low + 0.3


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty grey pictures, and a config and a table for them, in the working directory."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw = np.random.default_rng(0)
    rows = ["file,age,sex"]
    for i in range(20):
        age, sex = 20 + 3 * i, i % 2
        array = np.clip(draw.normal(40 + 2 * age, 4, (8, 8)), 0, 255).astype(np.uint8)
        Image.fromarray(array).save(folder / f"p{i}.png")
        rows.append(f"p{i}.png,{age},{sex}")
    (tmp_path / "people.csv").write_text("\n".join(rows))
    config = {
        "modality": {"name": "image", "size": [8, 8], "channels": 1},
        "data": {"name": "folder", "root": "pictures", "context": "people.csv", "batch_size": 8},
        "network": {"channels": [8], "groups": 4, "attention": []},
        "method": {"name": "edm"},
        "trainer": {"max_steps": 4, "accelerator": "cpu"},
        "preview": {"every_steps": 4, "n": 2, "steps": [2]},
        "validation": {"every_steps": 4, "n": 2},
        "log": {"tensorboard": False},
    }
    (tmp_path / "people.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_whole_way_on_the_command_line(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "people.yaml", "--out", "run"]) == 0
    assert Path("run/validation.csv").read_text().count("\n") == 3
    assert main(["export", "run", "--out", "model"]) == 0
    scale = read_record(Path("run")).context
    assert scale == Pipeline.from_pretrained("model").config.context
    assert scale is not None
    assert scale.names == ("age", "sex")
    assert "| context | age (" in Path("model/README.md").read_text()
    words = ["sample", "model", "--n", "2", "--steps", "3"]
    assert main([*words, "--context", "age=60,sex=1", "--guidance", "2", "--out", "one"]) == 0
    assert main([*words, "--context", "people.csv", "--out", "two"]) == 0
    assert main([*words, "--out", "three"]) == 0
    edit = ["edit", "model", "--task", "inpaint", "--input", "pictures/p0.png", "--box", "2,2,6,6", "--steps", "1"]
    assert main([*edit, "--context", "age=60,sex=1", "--guidance", "2", "--out", "four"]) == 0
    assert main(["train", "people.yaml", "--init", "model", "--set", "method={name: ect}", "--out", "student"]) == 0
    capsys.readouterr()
    for wrong, told in {
        "age=60": "error: context: got age; expected age, sex",
        "age=sixty,sex=1": "error: --context: expected numbers such as age=60,sex=1, each once, got 'age=sixty'",
        "nowhere.csv": "error: nowhere.csv: no such file",
    }.items():
        assert main([*words, "--context", wrong, "--out", "five"]) == 2
        assert capsys.readouterr().err.startswith(told)
    assert main([*words, "--guidance", "2", "--out", "five"]) == 2
    assert "with nothing to be guided by; expected a context beside it" in capsys.readouterr().err
    assert not Path("five").exists()
