"""sample, edit, report and inspect on a tiny model: what scripts rely on."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmmulti.cli import main

Run = Callable[..., tuple[int, str, str]]


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_sample_uses_consecutive_seeds_and_says_all(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, err = cmmulti("sample", model, "--n", 3, "--steps", 2, "--seed", 5, "--label", "two", "--out", out)
    assert (code, err) == (0, "")
    assert str(out / "index.html") in text
    assert "(2 network evaluations each, " in text
    results = json.loads((out / "results.json").read_text())
    assert [(o["seed"], o["label"]) for o in results["outputs"]] == [(5, 2), (6, 2), (7, 2)]
    assert (results["steps"], results["nfe"], results["task"]) == (2, 2, "sample")
    assert results["command"].startswith("cmmulti sample ")
    for output in results["outputs"]:
        assert pixels(out / output["file"]).shape == (8, 8)


def test_one_network_evaluation_is_told_in_the_singular(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    _, text, _ = cmmulti("sample", model, "--n", 2, "--steps", 1, "--out", tmp_path / "out")
    assert "(1 network evaluation each, " in text


def test_a_seed_gives_the_same_sample_however_many_are_made(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    cmmulti("sample", model, "--n", 3, "--seed", 0, "--out", tmp_path / "three")
    cmmulti("sample", model, "--n", 1, "--seed", 2, "--out", tmp_path / "one")
    three, one = (pixels(tmp_path / name / "sample-2.png").astype(int) for name in ("three", "one"))
    assert abs(three - one).max() <= 1


def test_levels_take_the_place_of_steps(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    code, text, _ = cmmulti("sample", model, "--n", 1, "--levels", "80,2,0.5", "--json", "--out", tmp_path / "out")
    assert code == 0
    results = json.loads(text)
    assert (results["levels"], results["nfe"]) == ([80.0, 2.0, 0.5], 3)


def test_edit_passes_the_tasks_own_options(cmmulti: Run, model: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("edit", model, "--task", "inpaint", "--input", picture, "--box", "2,2,5,6", "--samples", 2, "--seed", 4)
    code, _, err = cmmulti(*words, "--reference", picture, "--out", out)
    assert (code, err) == (0, "")
    results = json.loads((out / "results.json").read_text())
    assert (results["task"], [o["seed"] for o in results["outputs"]]) == ("inpaint", [4, 5])
    assert isinstance(results["metrics"]["psnr"], float)
    assert all(isinstance(figures["psnr"], float) for figures in results["baselines"].values())
    outside = np.ones((8, 8), bool)
    outside[2:6, 2:5] = False
    for output in results["outputs"]:
        assert np.array_equal(pixels(out / output["file"])[outside], pixels(picture)[outside])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "inpant", "--box", "1,1,3,3"], ["'inpant'", "did you mean 'inpaint'"]),
        (["--task", "inpaint", "--bax", "1,1,3,3"], ["'--bax'", "did you mean '--box'"]),
        (["--task", "inpaint", "--box", "1,1,3,3", "--sampels", "2"], ["'--sampels'", "did you mean '--samples'"]),
        (["--task", "inpaint", "--box", "1,1,3"], ["box"]),
        (["--task", "inpaint", "--box", "1,1,3,x"], ["box"]),
        (["--task", "inpaint", "--box"], ["--box", "expected a value"]),
        (["--task", "inpaint", "--mask", "nowhere.png"], ["nowhere.png"]),
        (["--task", "inpaint", "stray", "--box", "1,1,3,3"], ["unexpected 'stray'"]),
    ],
)
def test_mistakes_in_a_task(
    cmmulti: Run, model: Path, picture: Path, tmp_path: Path, words: list[str], told: list[str]
) -> None:
    code, out, err = cmmulti("edit", model, *words, "--input", picture, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert all(word in err for word in told)
    assert not (tmp_path / "out").exists()


def test_a_slip_without_a_task(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    for word, told in (("--box", "no task options"), ("--guidence", "did you mean --guidance?")):
        code, _, err = cmmulti("evaluate", model, "--data", tmp_path, "--out", tmp_path / "out", word, 2)
        assert code == 2
        assert told in err


def test_an_input_is_asked_for(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    for words, told in (([], "--input: missing"), (["--input", tmp_path / "none.png"], "none.png: no such file")):
        code, _, err = cmmulti("edit", model, "--task", "inpaint", "--box", "1,1,3,3", *words, "--out", tmp_path / "out")
        assert code == 2
        assert told in err


def test_help_explains_the_task_of_a_model(cmmulti: Run, model: Path) -> None:
    code, out, _ = cmmulti("edit", model, "--task", "inpaint", "--help")
    assert code == 0
    assert "--box" in out
    assert "pixels" in out
    assert "inpaint" in cmmulti("edit", model, "--help").out  # type: ignore[attr-defined]
    code, out, _ = cmmulti("evaluate", model, "--task", "denoise", "--help")
    assert code == 0
    assert "--tune NAME:KEY=V1,V2" in out
    assert "--sigma" in out


def test_report_makes_the_page_again(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cmmulti("sample", model, "--n", 1, "--out", out)
    (out / "index.html").unlink()
    assert cmmulti("report", out)[0] == 0
    assert (out / "index.html").is_file()
    code, text, _ = cmmulti("report", tmp_path)
    assert code == 0
    assert str(tmp_path / "index.html") in text


def test_json_is_json_on_any_terminal(cmmulti: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cmmulti("sample", model, "--n", 1, "--out", tmp_path / "été")[0] == 0
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["report", str(tmp_path), "--json"]) == 0
    assert json.loads(terminal.buffer.getvalue())["parts"][0]["folder"] == "été"


def test_json_holds_no_nan(cmmulti: Run, tmp_path: Path) -> None:
    def refused(word: str) -> None:
        raise ValueError(word)

    record = {"title": "t", "seed": math.nan, "version": "1", "budget": {"steps": 1}, "cells": {}}
    (tmp_path / "comparison.json").write_text(json.dumps(record))
    code, text, _ = cmmulti("inspect", tmp_path, "--json")
    assert (code, json.loads(text, parse_constant=refused)["seed"]) == (0, None)


def test_overwrite_replaces_results(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cmmulti("sample", model, "--n", 2, "--out", out)
    assert cmmulti("sample", model, "--n", 1, "--out", out)[0] == 2
    assert cmmulti("sample", model, "--n", 1, "--out", out, "--overwrite")[0] == 0
    assert sorted(path.name for path in out.glob("*.png")) == ["sample-0.png"]
