"""What a comparison is told: all mistakes at once, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cmmulti.cli import main
from cmmulti.comparison.check import source_of
from cmmulti.comparison.reader import load_plan
from cmmulti.comparison.schema import merged
from cmmulti.errors import UserError
from cmmulti.training.sources import build_modality, data_source

Writer = Callable[..., Path]
ICT = {"name": "ict"}
TWO = {"waves": {"config": "waves.yaml"}, "swells": {"config": "waves.yaml", "set": {"data": {"name": "swells"}}}}
SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "comparison").glob("*.yaml"))


def test_a_dry_run_tells_the_plan_and_writes_nothing(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    path = file()
    assert main(["compare", str(path), "--out", "out", "--dry-run"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told[:3]] == ["waves/teacher", "waves/ect", "waves/ict"]
    assert all("parameters; first loss" in line for line in told[:3])
    assert sorted(p.name for p in Path().iterdir()) == ["compare.yaml", "waves.yaml"]


def test_a_dry_run_tells_two_mistakes_in_one_line(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    methods = {"ect": {"method": {"name": "ect", "stagse": 2}}, "ict": {"method": {"name": "ict"}, "sett": {}}}
    assert main(["compare", str(file(methods=methods)), "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "waves/ect: method: unknown key 'stagse' (did you mean 'stages'?)" in told
    assert "methods.ict: unknown key 'sett' (did you mean 'set'?)" in told


def test_mistakes_that_show_only_when_built_are_told_together(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    methods = {
        "ect": {"method": {"name": "ect"}, "set": {"network": {"channels": [16]}}, "start": "teacher"},
        "ict": {"method": {"name": "ict"}, "set": {"data": {"name": "none"}}},
    }
    assert main(["compare", str(file(methods=methods)), "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert "waves/ect: init = 'waves/teacher': of another architecture" in told
    assert "waves/ict: data.name = 'none'" in told
    assert main(["compare", str(file(evaluation={"n": 4})), "--dry-run"]) == 2
    assert "evaluation: n = 4; expected at least 16" in capsys.readouterr().err
    assert main(["compare", str(file(evaluation={"task": "fil"})), "--dry-run"]) == 2
    assert "did you mean 'fill'" in capsys.readouterr().err


def test_what_would_start_from_a_pair_of_networks_is_told_before_the_pair_is_trained(
    file: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = {
        "ect": {"method": {"name": "ect"}, "start": "scratch"},
        "tcm": {"method": {"name": "tcm"}, "start": "ect"},
        "last": {"method": {"name": "ect"}, "start": "tcm"},
    }
    assert main(["compare", str(file(methods=methods, cells={"waves": {"config": "waves.yaml"}})), "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: waves/last: waves/tcm: a model of 2 networks, each for its own noise levels; expected")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"budget": {"steps": 1, "minutes": 1}}, "either minutes or steps"),
        ({"methods": {"teacher": {"method": {"name": "ict"}}}}, "other than teacher"),
        ({"methods": {"a": {"method": ICT, "start": "b"}}}, "methods.a.start = 'b': expected one of scratch, teacher (or"),
        ({"cells": {"w": {"config": "none.yaml"}}}, "none.yaml: no such file"),
        ({"cells": {"w": {"config": "waves.yaml"}}}, "cells.w: method ect wants a teacher"),
        ({"cells": {"w": {"config": "waves.yaml", "teacher": "nowhere"}}}, "no model folder and no shipped name"),
        (
            {"cells": {"w": {"config": "waves.yaml", "teacher": {"config": "waves.yaml", "set": {"method": ICT}}}}},
            "makes a consistency model; expected a denoising teacher",
        ),
        ({"cells": {"w": {"config": "waves.yaml", "for_method": {"icd": {}}, "teacher": "x"}}}, "no method 'icd'"),
        ({"evaluation": {"steps": []}}, "at least one number of steps"),
        ({"methods": {"both": {"method": ICT, "joint": ["waves", "tides"]}}}, "methods.both.joint: no cell 'tides'"),
        ({"methods": {"both": {"method": ICT, "joint": ["waves"]}}}, "methods.both: joint = "),
        (
            {"methods": {"both": {"method": ICT, "joint": ["waves", "swells"], "start": "teacher"}}, "cells": TWO},
            "methods.both.start = 'teacher': expected one of scratch (a joint model starts from a joint one",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_told_by_its_key(file: Writer, section: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=None) as caught:
        load_plan(file(**section))
    assert told in str(caught.value)


def test_an_unknown_method_is_told_once(file: Writer) -> None:
    cells = {name: {**cell, "teacher": {"config": "waves.yaml"}} for name, cell in TWO.items()}
    with pytest.raises(UserError) as caught:
        load_plan(file(methods={"a": {"method": {"name": "icd"}}}, cells=cells))
    assert str(caught.value).count("unknown method 'icd'") == 1


def test_a_method_or_a_cell_is_left_out_by_null(file: Writer) -> None:
    cells = {name: {**cell, "teacher": {"config": "waves.yaml"}} for name, cell in TWO.items()}
    plan = load_plan(file(cells=cells), ["methods.ect=null", "cells.waves=null"])
    assert [entry.name for _, entry in plan.entries] == ["swells/teacher", "swells/ict"]


def test_the_configs_of_runs_and_of_comparisons_are_told_apart(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(file().with_name("waves.yaml")), "--dry-run"]) == 2
    assert "the config of one run; expected that of a comparison" in capsys.readouterr().err
    assert main(["train", "compare.yaml", "--dry-run"]) == 2
    assert "the config of a comparison; expected that of one run" in capsys.readouterr().err


def test_minutes_are_told_as_minutes(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(file(budget={"minutes": 3})), "--dry-run"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.rpartition("; ")[2] for line in told[:2]] == ["6 steps", "3 minutes of compute"]


def test_sections_are_laid_over_each_other(file: Writer) -> None:
    methods = {
        "ect": {"method": {"name": "ect"}, "set": {"optimizer": None, "network": {"channels": [16]}}},
        "ict": {"method": {"name": "ict"}},
    }
    cell = {"config": "waves.yaml", "set": {"data": {"batch_size": 8}}, "for_method": {"ict": {"label_dropout": 0}}}
    plan = load_plan(file(methods=methods, cells={"waves": cell}), ["seed=5", "budget.steps=7"], Path("somewhere"))
    ect, ict = (entry.config() for _, entry in plan.entries)
    assert ect.optimizer.learning_rate == 3e-4  # the method's own, since the file's section is taken away
    assert ict.optimizer.learning_rate == 1e-3
    assert (ect.network.settings["channels"], ect.network.settings["classes"]) == ([16], 2)
    assert (ect.data.batch_size, ict.label_dropout, ect.label_dropout) == (8, 0, 0.1)
    assert {c.trainer.seed for c in (ect, ict)} == {5}
    assert {c.trainer.max_steps for c in (ect, ict)} == {7}
    assert {str(c.data.root) for c in (ect, ict)} == {"somewhere"}
    assert ect.preview.every_steps == 0


def test_held_out_items_are_those_that_the_run_holds_out() -> None:
    (path,) = (path for path in SHIPPED if path.stem == "digits")
    cell = load_plan(path, ["cells.digits.set.data.options.split_seed=1"]).cells[0]
    config = cell.methods[-1].config()
    modality = build_modality(config)
    train, held_out = (
        modality.dataset(data_source(config), "train"),
        modality.dataset(source_of(config, cell.evaluation), "val"),
    )
    assert not set(train.names) & set(held_out.names)
    asked = cell.evaluation.model_copy(update={"data_options": {"split_seed": 2}})
    assert source_of(config, asked).options == {"split_seed": 2}


def test_items_that_are_no_samples_size_are_refused(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    methods = {"ict": {"method": ICT, "set": {"data": {"options": {"crop": 8}}}}}
    cells = {"waves": {"config": "waves.yaml"}}
    assert main(["compare", str(file(methods=methods, cells=cells)), "--dry-run"]) == 2
    assert "(1, 8) is the shape of an item of waves, (1, 16) that of a sample" in capsys.readouterr().err
    evaluation = {"data_options": {"crop": 16}}
    assert main(["compare", str(file(methods=methods, cells=cells, evaluation=evaluation)), "--dry-run"]) == 0


def test_an_identity_holds_no_place(file: Writer) -> None:
    for folder in ("teacher", "features"):
        Path(folder).mkdir()
    methods = {
        "cd": {"method": {"name": "cd", "distance": {"name": "classifier", "path": "features"}}},
        "both": {"method": {"name": "edm"}, "joint": ["waves", "swells"]},
    }
    cells = {name: {**cell, "teacher": "teacher"} for name, cell in TWO.items()}
    path = file(methods=methods, cells=cells)
    near, far = load_plan(path, [], Path("here")), load_plan(path.absolute(), [], Path("there"))
    identities = [[entry.identity(cell) for cell, entry in plan.entries] for plan in (near, far)]
    assert identities[0] == identities[1]
    assert "here" not in str(identities)


def test_the_network_of_a_distance_is_looked_for_beside_the_file(
    file: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distance = {"name": "classifier", "path": "features"}
    cells = {"waves": {"config": "waves.yaml", "teacher": {"config": "waves.yaml"}}}
    path = file(methods={"cd": {"method": {"name": "cd", "distance": distance}}}, cells=cells)
    (tmp_path / "features").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    entry = load_plan(path).cells[0].methods[0]
    assert entry.config().method.settings["distance"]["path"] == str(tmp_path / "features")
    assert entry.values["method"]["distance"] == distance


def test_a_piece_of_another_name_takes_the_place_of_the_former() -> None:
    base = {"network": {"name": "unet", "channels": [8]}, "a": {"b": 1, "c": 2}}
    assert merged(base, {"network": {"name": "monai"}})["network"] == {"name": "monai"}
    assert merged(base, {"network": {"blocks": 2}})["network"] == {"name": "unet", "channels": [8], "blocks": 2}
    assert merged(base, {"a": {"b": None}})["a"] == {"c": 2}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_comparisons_of_this_project_are_without_mistakes(path: Path) -> None:
    plan = load_plan(path)
    assert all(entry.config("anywhere", steps=100).trainer.max_steps == 100 for _, entry in plan.entries)


def test_a_student_may_have_the_network_of_what_it_starts_from(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """Translated, where its teacher's form is another, as a converted model's is."""
    network = {"network": {"name": "init", "classes": None}}
    methods = {"sct": {"method": {"name": "sct"}, "start": "teacher", "set": network}}
    assert main(["compare", str(file(methods=methods)), "--dry-run"]) == 0, capsys.readouterr().err
    methods["sct"].pop("start")
    assert main(["compare", str(file(methods=methods)), "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert "waves/sct: network.name = 'init': expected methods.sct.start, the model whose network it is" in told
