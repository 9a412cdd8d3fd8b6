"""inspect knows the config of a comparison and the folder that one leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cmmulti.comparison.reader import load_plan
from cmmulti.comparison.state import Places, State
from cmmulti.comparison.summary import write_summary
from cmmulti.errors import UserError
from cmmulti.inspection import inspect, words

Writer = Callable[..., Path]


def test_the_config_of_a_comparison(file: Writer) -> None:
    found = inspect(file())
    assert (found["kind"], found["title"], found["budget"]) == ("comparison config", "Waves", "8 steps")
    assert (found["methods"], found["cells"]) == (["ect", "ict"], ["waves"])
    assert found["trainings"] == ["waves/teacher", "waves/ect", "waves/ict"]
    with pytest.raises(UserError, match=r"compare\.yaml: .*budgets.*did you mean 'budget'"):
        inspect(file(budgets=1))
    assert inspect(Path("waves.yaml"))["kind"] == "run config"


def test_the_folder_of_a_comparison(file: Writer, tmp_path: Path) -> None:
    plan, out = load_plan(file()), tmp_path / "out"
    out.mkdir()
    record = write_summary(plan, Places(out))
    for path in (out, record):
        found = inspect(path)
        assert (found["kind"], found["title"], found["budget"]) == ("comparison", "Waves", "8 steps")
        assert set(found["models"]["waves"]) == {"ect", "ict", "teacher"}
    for damaged in ("{", "[]", "{}", json.dumps({"cells": {"a": {"models": {"b": 1}}}})):
        record.write_text(damaged)
        with pytest.raises(UserError, match=r"comparison\.json"):
            inspect(out)


def test_what_lies_in_the_folder_of_a_comparison(file: Writer, tmp_path: Path) -> None:
    plan, places = load_plan(file()), Places(tmp_path / "out")
    entry = plan.cells[0].methods[0]
    places.save("waves", "ect", State(identity=entry.identity(plan.cells[0]), steps=8, seconds=1.5, failure="no luck"))
    write_summary(plan, places)
    path = places.state_file("waves", "ect")
    found = inspect(path)
    assert (found["kind"], found["cell"], found["method"]) == ("entry of a comparison", "waves", "ect")
    assert (found["steps"], found["failure"], found["evaluated"]) == (8, "no luck", False)
    assert len(words(found)) < 400
    (places.run(entry) / "..").resolve().mkdir(parents=True)
    for inner in (path.parent, path.parent.parent, tmp_path / "out" / "runs", tmp_path / "out" / "runs" / "waves"):
        found = inspect(inner)
        assert found["kind"] == f"{inner.relative_to(tmp_path / 'out').parts[0]} of a comparison"
        assert found["models"]["waves"]["ect"] == "failed (no luck)"
    path.write_text(json.dumps({"identity": 3, "clock": "cpu"}))
    with pytest.raises(UserError, match=r"ect\.json: identity = 3"):
        inspect(path)
