"""``cmmulti compare``: models are trained, measured and shown; one failure does not stop the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compare_toys import ALONE, summary
from safetensors.torch import load_file

from cmmulti.cli import main
from cmmulti.evaluation.request import Request
from cmmulti.report import read_results

Writer = Callable[..., Path]


def test_methods_are_trained_measured_and_shown_side_by_side(
    file: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", str(file()), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"page: {out / 'index.html'}\n")
    models = summary(out)["cells"]["waves"]["models"]
    assert {name: m["status"] for name, m in models.items()} == {"ect": "done", "ict": "done", "teacher": "done"}
    assert [row["nfe"] for row in models["ect"]["rows"]] == [1, 2]
    assert [row["nfe"] for row in models["teacher"]["rows"]] == [35]
    assert {m["steps"] for m in (models["ect"], models["ict"])} == {8}
    assert models["teacher"]["steps"] == 6
    assert models["ect"]["seconds_before"] == pytest.approx(models["teacher"]["seconds"])
    assert models["ict"]["seconds_before"] == 0
    assert len({m["parameters"] for m in models.values()}) == 1
    shown = read_results(out)
    (samples,) = (s for s in shown.sections if "samples at the same seeds" in s.title)
    assert [row.title for row in samples.rows] == [
        "ect, 1 NFE", "ect, 2 NFE", "ict, 1 NFE", "ict, 2 NFE", "teacher, 35 NFE",
    ]  # fmt: skip
    assert samples.columns[:2] == ["seed 0, class 0", "seed 1, class 1"]
    assert samples.rows[0].text == "one scale"
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64") == 5 * 8
    assert "http" not in page
    assert "parameters each, the same examples in the same order" in page
    assert '<a href="figures/waves/ect/index.html">figures/waves/ect/index.html</a>' in page
    assert "classifier accuracy (%)<small>↑ higher is better" in page
    assert page.count('<div class="scroll" tabindex="0"') == page.count('class="scroll"')
    (_,) = (out / "figures" / "waves" / "classifiers").glob("*.safetensors")  # one for all, or figures do not compare


def test_what_is_finished_is_not_done_again_and_another_config_is_refused(
    file: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(file(methods={"ict": {"method": {"name": "ict"}}})), "--out", "out"]
    assert main(words) == 0
    weights = Path("out/models/waves/ict/model.safetensors")
    before = weights.stat().st_mtime_ns
    capsys.readouterr()
    assert main([*words, "--set", "evaluation.steps=[1]"]) == 0
    told = capsys.readouterr()
    assert "sampling 32 with model in 1 step" in told.out
    assert "step 8/8" not in told.err
    assert weights.stat().st_mtime_ns == before
    assert main([*words, "--set", "methods.ict.method.last=20"]) == 2
    assert "waves/ict was begun with another config: method.last = unset (now 20)" in capsys.readouterr().err
    assert main([*words, "--set", "cells.waves.title=Other"]) == 0


def test_models_are_measured_with_the_options_of_their_data(file: Writer, measurements: list[tuple[Request, int]]) -> None:
    methods = {"ict": {"method": {"name": "ict"}, "set": {"data": {"options": {"seed": 1, "crop": 8}}}}}
    cells, quick = {"waves": {"config": "waves.yaml"}}, {"n": 16, "steps": [1], "classifier_steps": 5}
    path = file(methods=methods, cells=cells, budget={"steps": 2}, evaluation={**quick, "data_options": {"crop": 16}})
    assert main(["compare", str(path), "--out", "out"]) == 0
    assert [request.source().options for request, _ in measurements] == [{"seed": 1, "crop": 16}]


def test_all_models_are_measured_on_as_many_threads_as_they_are_trained_on(
    file: Writer, measurements: list[tuple[Request, int]]
) -> None:
    cells = {"waves": {"config": "waves.yaml", "set": {"trainer": {"threads": 1}}}}
    quick = {"n": 16, "steps": [1], "classifier_steps": 5}
    path = file(methods={"edm": {"method": {"name": "edm"}}}, cells=cells, budget={"steps": 2}, evaluation=quick)
    words = ["compare", str(path), "--out", "out"]
    torch.set_num_threads(2)
    assert main(words) == 0
    assert main([*words, "--set", "evaluation.seed=1", "--set", "cells.waves.teacher=out/models/waves/edm"]) == 0
    assert [threads for _, threads in measurements] == [1, 1, 1]
    assert torch.get_num_threads() == 2


def test_a_page_tells_what_does_not_compare_and_a_lost_picture_stops_nothing(
    file: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = {
        "edm": {"method": {"name": "edm"}},
        "ict": {"method": {"name": "ict"}, "set": {"data": {"options": {"seed": 1}}}, "start": "edm"},
    }
    words = ["compare", str(file(**{**ALONE, "methods": methods})), "--out", "out"]
    assert main(words) == 0
    figures, own = Path("out/figures/waves/edm/results.json"), read_results(Path("out/figures/waves/edm"))
    figures.write_text(figures.read_text().replace(own.details["feature_hash"], "another"))
    assert main(words) == 0
    shown = read_results(Path("out"))
    (note,) = (note for note in shown.notes if "different features" in note)
    assert note.startswith("waves: figures on different features do not compare: edm (another); ict (")
    assert "not all the same examples, since their data sections differ" in shown.sections[1].text
    state = Path("out/entries/waves/edm.json")
    state.write_text(state.read_text().replace('"clock": "cpu"', '"clock": "wall"'))
    next(Path("out/figures/waves/edm").rglob("*.png")).unlink()
    capsys.readouterr()
    assert main(words) == 0
    assert "the page was not renewed: out/figures/waves/edm/" in capsys.readouterr().out
    costs = read_results(Path("out")).sections[1].tables[0].rows
    assert [(row[5], row[7]) for row in costs] == [("wall", costs[0][4]), ("cpu", "unknown")]


def test_what_is_advised_where_a_config_changed_trains_that_model_anew(
    file: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(file(methods={"ict": {"method": {"name": "ict"}}})), "--out", "out"]
    assert main(words) == 0
    other = [*words, "--set", "methods.ict.method.last=20"]
    assert main(other) == 2
    removed = capsys.readouterr().err.rpartition("these removed: ")[2].split()
    assert all(place.startswith("out/") for place in removed)
    for place in map(Path, removed):
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert main(other) == 0
    assert "waves/ict: 8 steps" in capsys.readouterr().out


def test_a_folder_of_something_else_and_a_teacher_that_is_none_are_refused_before_any_training(
    file: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = {"ict": {"method": {"name": "ict"}}}
    assert main(["compare", str(file(methods=methods)), "--out", str(tmp_path)]) == 2
    assert "and no comparison; expected a new folder" in capsys.readouterr().err
    assert main(["compare", str(file(methods=methods)), "--out", "out"]) == 0
    cells = {"waves": {"config": "waves.yaml", "teacher": "out/models/waves/ict"}}
    capsys.readouterr()
    assert main(["compare", str(file(methods=methods, cells=cells)), "--out", "other"]) == 2
    assert "a consistency model; expected a denoising teacher" in capsys.readouterr().err
    assert not Path("other").exists()


def test_a_model_that_diverged_is_the_users_affair(file: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    wild = {"ict": {"method": {"name": "ict"}, "set": {"optimizer": {"learning_rate": 1e30}}}}
    assert main(["compare", str(file(methods=wild)), "--out", "out"]) == 2
    assert "its training has diverged" in capsys.readouterr().err


@pytest.mark.parametrize(("seed", "reason"), [(0, "the fourth step is one too many"), (1, "ZeroDivisionError")])
def test_one_that_fails_is_named_and_does_not_stop_the_others(
    file: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int, reason: str
) -> None:
    methods = {"fails": {"method": {"name": "fails"}}, "heir": {"method": {"name": "ect"}, "start": "fails"},
               "ict": {"method": {"name": "ict"}}}  # fmt: skip
    out = tmp_path / "out"
    assert main(["compare", str(file(methods=methods, seed=seed)), "--out", str(out)]) == (70 if seed else 2)
    told = capsys.readouterr().err
    assert "error: 2 of the models failed: waves/fails (" in told
    assert reason in told
    models = summary(out)["cells"]["waves"]["models"]
    assert models["fails"]["status"] == "failed"
    assert models["heir"]["failure"] == "waves/fails, which it is made from, has no model"
    assert models["ict"]["status"] == "done"
    results = read_results(out)
    assert any(reason in note and "\n" not in note for note in results.notes)
    assert [row[1] for row in results.sections[0].tables[0].rows[:2]] == ["failed", "failed"]
    assert (out / "entries" / "waves" / "fails.log").is_file() == (seed == 1)


def test_a_budget_of_minutes_becomes_steps_once(file: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmmulti.comparison.budget.LEAST", 0.05)
    path = file(budget={"minutes": 0.01}, methods={"ict": {"method": {"name": "ict"}}})
    assert main(["compare", str(path), "--out", "out"]) == 0
    model = summary(Path("out"))["cells"]["waves"]["models"]["ict"]
    assert model["steps"] > 1
    assert 0.1 < model["seconds"] / 0.6 < 3
    assert model["clock"] == "cpu"
    assert sorted(p.name for p in Path("out/runs/waves").iterdir()) == ["ict", "teacher"]
    state = json.loads(Path("out/entries/waves/ict.json").read_text())
    assert state["steps"] == model["steps"]


def test_a_task_in_place_of_samples(file: Writer) -> None:
    evaluation = {"task": "fill", "n": 6, "steps": [1], "classifier_steps": 20}
    path = file(evaluation=evaluation, methods={"ict": {"method": {"name": "ict"}}})
    assert main(["compare", str(path), "--out", "out"]) == 0
    cell = summary(Path("out"))["cells"]["waves"]
    assert [row["nfe"] for row in cell["models"]["ict"]["rows"]] == [1]
    assert [row["nfe"] for row in cell["models"]["teacher"]["rows"]] == [1, 2]
    assert cell["beside"][0]["name"] == "silence"
    shown = read_results(Path("out")).sections
    assert "Held-out items" not in str(shown[0].text)
    costs = next(s for s in shown if s.title == "Cost").tables[0]
    seconds = [[float(word) > 0 for word in str(row[-1]).split(" · ")] for row in costs.rows]
    assert seconds == [[True], [True, True]]  # a case, the denoiser at its own number of evaluations, too
    media = shown[-1].media
    assert [m.caption.partition(" · ")[0] for m in media] == ["silence", "ict, 1 NFE", "teacher, 2 NFE"]


def test_a_joint_model_stands_beside_the_separate_ones(file: Writer) -> None:
    methods = {"ict": {"method": {"name": "ict"}}, "both": {"method": {"name": "edm"}, "joint": ["swells", "waves"]},
               "student": {"method": {"name": "ect"}, "joint": ["waves", "swells"], "start": "both"}}  # fmt: skip
    cells = {"waves": {"config": "waves.yaml"}, "swells": {"config": "waves.yaml", "set": {"data": {"name": "swells"}}}}
    evaluation = {"n": 16, "steps": [1], "classifier_steps": 10}
    words = ["compare", str(file(methods=methods, cells=cells, evaluation=evaluation)), "--out", "out"]
    assert main(words) == 0
    found = summary(Path("out"))["cells"]
    assert {m["status"] for cell in found.values() for m in cell["models"].values()} == {"done"}
    assert [found[cell]["models"][name]["steps"] for cell in found for name in ("ict", "both")] == [8, 16, 8, 16]
    costs = read_results(Path("out")).sections[1].tables[0].rows
    seen = {str(row[0]): row[3] for row in costs}
    assert seen["waves: both"] == seen["waves: ict"] == "32"  # every second of twice as many steps is of this cell
    assert found["waves"]["models"]["both"]["seconds"] == found["swells"]["models"]["both"]["seconds"]
    assert not Path("out/runs/swells/both").exists()
    a, b = (load_file(Path("out/models") / cell / "student" / "model.safetensors") for cell in ("waves", "swells"))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    told = [json.loads((Path("out/models") / cell / "both" / "config.json").read_text()) for cell in ("waves", "swells")]
    assert [(t["modality_index"], t["first_label"]) for t in told] == [(0, 0), (1, 2)]
    page = Path("out/index.html").read_text()
    assert "both is one model of" in page
    assert "for waves and swells, with the budget of as many" in page
    assert main(words) == 0
