"""A network that is told no classes where the data have some: one line says so, where the config does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cmmulti.config import RunConfig
from cmmulti.training.dry_run import dry_run
from cmmulti.training.export import export
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
TOLD = (
    "network.classes is not set: network another learns none of the 3 classes of data 'toys'; "
    "expected 3 to learn them, 0 to leave them out\n"
)
ANOTHER = "network={name: another, channels: [8], groups: 4}"
QUICK = ("trainer.max_steps=1", "preview.every_steps=0", "validation.every_steps=0")


def test_it_is_told_once_at_the_start(toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy_config("modality.name=labelled", ANOTHER, *QUICK)
    train(config, tmp_path / "run")
    assert capsys.readouterr().err.count(TOLD) == 1
    dry_run(config)
    assert capsys.readouterr().err == TOLD


@pytest.mark.parametrize(
    "values",
    [
        ("modality.name=labelled", ANOTHER, "network.classes=3"),
        ("modality.name=labelled", ANOTHER, "network.classes=0"),
        ("modality.name=labelled", "network={name: unet}"),
        ("modality.name=labelled", "network={name: unet, classes: 0}"),
        ("modality.name=labelled", "network={name: deaf, channels: [8], groups: 4}"),  # it cannot be told any
        ("modality.name=toy", ANOTHER),  # whose adapter tells no network of classes
    ],
)
def test_what_is_as_the_config_says_is_not_told(
    toy_config: Config, capsys: pytest.CaptureFixture[str], values: tuple[str, ...]
) -> None:
    dry_run(toy_config(*values, *QUICK))
    assert capsys.readouterr().err == ""


def test_a_network_of_init_is_as_that_model_has_it(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(toy_config("modality.name=labelled", ANOTHER, *QUICK), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "model")
    capsys.readouterr()
    config = toy_config("modality.name=labelled", "network={name: init}", f"init={tmp_path / 'model'}", *QUICK)
    dry_run(config)
    assert capsys.readouterr().err == ""
    train(config, tmp_path / "student")
    train(config, tmp_path / "student", resume=True)
    assert "network.classes" not in capsys.readouterr().err
