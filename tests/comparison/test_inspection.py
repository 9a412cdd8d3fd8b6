"""inspect knows the config of a comparison and the folder that one leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cmmulti.comparison.reader import load_plan
from cmmulti.comparison.state import Places
from cmmulti.comparison.summary import write_summary
from cmmulti.errors import UserError
from cmmulti.inspection import inspect

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
