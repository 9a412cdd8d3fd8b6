"""The demo's commands are good ones, its inputs are packaged, and a failure leaves nothing behind."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cmmulti import registry
from cmmulti.cli import demo
from cmmulti.cli.demo_stops import EXPORT, STOPS, TRAIN, Stop
from cmmulti.cli.parser import parse
from cmmulti.config import load_config

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("command", [TRAIN, EXPORT, *(stop.command for stop in STOPS)])
def test_every_command_is_one_that_a_person_can_type(command: str) -> None:
    words = shlex.split(command.replace("{out}", "demo"))
    assert parse([*words, "--out", "demo/x"]).run


def test_every_input_is_packaged() -> None:
    there = {f"{{{path.name}}}" for path in demo._inputs()}
    wanted = {word for stop in STOPS for word in shlex.split(stop.command) if word.startswith("{") and word != "{out}"}
    assert {word for word in wanted if not word.startswith("{out}")} <= there


def test_the_training_config_is_good() -> None:
    config = load_config(Path(demo.__file__).with_name("demo_digits.yaml"))
    assert (config.data.name, config.method.name) == ("digits", "edm")


@pytest.fixture
def small_tour(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    """Two stops with the tiny model in place of the shipped ones, and no training."""
    stops = (
        Stop("one", "In one step", "Words.", f"sample {model} --n 2 --steps 1", "tiny"),
        Stop("two", "In two steps", "More words.", f"sample {model} --n 2 --steps 2"),
    )
    monkeypatch.setattr(demo, "STOPS", stops)
    monkeypatch.setattr(demo, "_train", lambda out: None)
    names = registry.names
    monkeypatch.setattr(registry, "names", lambda group: ["tiny"] if group == "models" else names(group))


@pytest.mark.usefixtures("small_tour")
def test_one_page_shows_all(cmmulti: Run, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    code, text, err = cmmulti("demo", "--out", out)
    assert (code, err) == (0, "")
    assert f"page: {out / 'index.html'}" in text
    html = (out / "index.html").read_text()
    assert "In one step" in html
    assert "More words." in html
    results = json.loads((out / "results.json").read_text())
    assert next(output["file"] for output in results["outputs"]) == "one/sample-0.png"
    assert all((out / output["file"]).is_file() for output in results["outputs"])
    assert cmmulti("demo", "--out", out)[0] == 2
    assert cmmulti("demo", "--out", out, "--overwrite")[0] == 0
    assert json.loads(cmmulti("demo", "--out", tmp_path / "b", "--json").out)["task"] == "demo"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("small_tour")
def test_a_missing_model_is_an_error_after_the_rest(cmmulti: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "names", lambda group: [])
    code, _, err = cmmulti("demo", "--out", tmp_path / "demo")
    assert code == 2
    assert "tiny" in err
    assert [part["folder"] for part in json.loads((tmp_path / "demo" / "results.json").read_text())["parts"]] == ["two"]


@pytest.mark.usefixtures("small_tour")
def test_a_failure_leaves_nothing(cmmulti: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STOPS", (*demo.STOPS, Stop("three", "", "", "sample nothing-of-that-name")))
    code, _, err = cmmulti("demo", "--out", tmp_path / "demo")
    assert code == 2
    assert "nothing-of-that-name" in err
    assert not (tmp_path / "demo").exists()
