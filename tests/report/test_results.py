"""results.json: what scripts rely on, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cmmulti.errors import UserError
from cmmulti.report import Output, Results, read_results, write_results


def results(**more: object) -> Results:
    return Results.model_validate({"command": "cmmulti sample m", "model": "m", "task": "sample", **more})


def test_the_promised_keys_are_there(tmp_path: Path) -> None:
    write_results(results(outputs=[Output(file="a.png", seed=3, label=7)]), tmp_path)
    raw = json.loads((tmp_path / "results.json").read_text())
    promised = {
        "command",
        "model",
        "task",
        "steps",
        "nfe",
        "seconds",
        "metrics",
        "baselines",
        "outputs",
        "measurement",
        "notes",
    }
    assert promised <= raw.keys()
    assert raw["outputs"] == [{"file": "a.png", "seed": 3, "label": 7}]


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    written = results(steps=2, metrics={"psnr": 30.5}, baselines={"zero_filled": {"psnr": 25.0}}, notes=["simulated"])
    write_results(written, tmp_path)
    assert read_results(tmp_path) == written


def test_figures_that_are_not_finite_become_null(tmp_path: Path) -> None:
    write_results(results(metrics={"psnr": math.inf, "ssim": math.nan, "nmse": 0.0}), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["metrics"] == {"psnr": None, "ssim": None, "nmse": 0.0}
    assert read_results(tmp_path).metrics["psnr"] is None


def test_figures_that_others_wrote_as_not_finite_are_no_figures(tmp_path: Path) -> None:
    raw = {"command": "", "model": "m", "task": "sample", "seconds": math.nan, "metrics": {"psnr": math.inf}}
    (tmp_path / "results.json").write_text(json.dumps(raw))
    found = read_results(tmp_path)
    assert (found.seconds, found.metrics) == (None, {"psnr": None})
    (tmp_path / "results.json").write_text(json.dumps({**raw, "levels": [math.inf, 1.0]}))
    with pytest.raises(UserError, match=r"levels\.0 = inf"):
        read_results(tmp_path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.png", "a/../../b", "C:\\x.png", "", "a\\..\\..\\b"])
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    raw = results().model_dump(mode="json") | {"outputs": [{"file": path}]}
    (tmp_path / "results.json").write_text(json.dumps(raw))
    with pytest.raises(UserError, match="inside the folder"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[1]", "JSON object"),
        (b"{}", "missing key 'command'"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"command": "", "model": "", "task": "", "stepz": 1}', "did you mean 'steps'"),
    ],
)
def test_damaged_results_are_refused_with_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_results(tmp_path)
    assert "results.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.json: no such file; expected the results of a cmmulti command"):
        read_results(tmp_path)
