"""What a dry run of a comparison says to a program: one JSON document on standard output, the words beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compare_toys import ALONE, summary

from cmmulti.cli import main

Writer = Callable[..., Path]


def planned(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["compare", str(path), "--out", "out", "--dry-run", "--json"]) == 0
    answer = capsys.readouterr()
    assert "first loss" in answer.err or "done" in answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_the_plan_is_told_model_by_model(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, file())
    assert (found["dry_run"], found["title"], found["budget"]) == (True, "Waves", {"minutes": None, "steps": 8})
    models = found["cells"]["waves"]["models"]
    assert {name: model["status"] for name, model in models.items()} == dict.fromkeys(("ect", "ict", "teacher"), "not yet")
    assert [models[name]["made_from"] for name in ("ect", "ict", "teacher")] == ["teacher", None, None]
    ect, teacher = models["ect"]["planned"], models["teacher"]["planned"]
    assert (ect["steps"], ect["trained"], ect["trained_in"], ect["parameters"]) == (
        8,
        False,
        "waves",
        teacher["parameters"],
    )
    assert (teacher["budget"], teacher["steps"]) == (None, 6)  # its config's own
    assert ect["estimated_minutes"] == pytest.approx(8 * ect["seconds_a_step"] / 60)
    assert found["estimated_minutes"] == pytest.approx(
        sum(model["planned"]["estimated_minutes"] for model in models.values())
    )
    assert not Path("out").exists()


def test_minutes_are_the_budget_itself_and_a_shared_model_counts_once(
    file: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {name: {"config": "waves.yaml", "set": {"data": {"name": name}}} for name in ("waves", "swells")}
    methods = {"both": {"method": {"name": "ict"}, "joint": ["waves", "swells"]}}
    found = planned(capsys, file(budget={"minutes": 3}, cells=cells, methods=methods))
    both = [found["cells"][name]["models"]["both"]["planned"] for name in cells]
    assert both[0] == both[1]
    assert (both[0]["steps"], both[0]["estimated_minutes"], both[0]["trained_in"]) == (None, 6, "waves")
    assert found["estimated_minutes"] == 6


def test_what_is_done_is_not_planned(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(**ALONE)
    assert main(["compare", str(path), "--out", "out"]) == 0
    found = planned(capsys, path)
    model = found["cells"]["waves"]["models"]["ict"]
    assert (model["status"], model["planned"], found["estimated_minutes"]) == ("done", None, 0)
    assert model["rows"] == summary(Path("out"))["cells"]["waves"]["models"]["ict"]["rows"]


def test_mistakes_leave_standard_output_empty(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(file(evaluation={"n": 4})), "--dry-run", "--json"]) == 2
    assert capsys.readouterr().out == ""
