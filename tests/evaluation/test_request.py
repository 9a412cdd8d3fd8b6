"""From a request to a folder with figures and a page."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation_toys import Fill, FillModality, Recalls, WaveModality, Waves, pipeline, unseen

from cmmulti.errors import UserError
from cmmulti.evaluation.card import with_figures, write_figures
from cmmulti.evaluation.evaluate import evaluate
from cmmulti.evaluation.generation import Sampling, generate
from cmmulti.evaluation.request import Request
from cmmulti.evaluation.task import how_to_solve
from cmmulti.evaluation.tuning import parsed
from cmmulti.evaluation.words import named_in, pairs
from cmmulti.modality import Assignment, DataSource, ModalitySettings, Split
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.folder import Piece
from cmmulti.report.results import Table


def request(folder: Path, modality: type[WaveModality] = WaveModality, **changes: Any) -> Request:
    pipe = pipeline(unseen(50_000), modality(ModalitySettings()))
    settings: dict[str, Any] = {"n": 64, "steps": [1], "classifier_steps": 100, **changes}
    return Request(pipeline=pipe, model="recalls", data=folder, out=folder / "out", **settings)


def written(path: Path | None) -> dict[str, Any]:
    assert path is not None
    assert (path / "index.html").is_file()
    results: dict[str, Any] = json.loads((path / "results.json").read_text())
    return results


def test_samples(tmp_path: Path) -> None:
    teacher = pipeline(unseen(60_000), WaveModality(ModalitySettings()), role="teacher")
    told: list[str] = []
    results = written(evaluate(request(tmp_path, teacher=teacher, steps=[1, 2]), told.append))
    assert results["model"] == "recalls"
    assert results["nfe"] == 1
    assert results["metrics"]["accuracy"] > 0.9
    rows = results["details"]["rows"]
    assert [(r["name"], r["nfe"]) for r in rows] == [("model", 1), ("model", 2), ("teacher", 35), ("held-out items", None)]
    assert results["baselines"].keys() == {"model, 2 steps", "teacher, 18 steps", "held-out items"}
    assert results["details"]["data"]["name"] == "waves"
    assert results["details"]["feature_hash"]
    assert len(results["outputs"]) == 8
    assert all((tmp_path / "out" / o["file"]).is_file() for o in results["outputs"])
    assert [o["label"] for o in results["outputs"][:3]] == [0, 1, 0]
    assert list((tmp_path / "classifiers").iterdir())
    assert any("teacher" in line for line in told)


@pytest.mark.parametrize(
    ("how", "row"),
    [
        (Sampling(), ("teacher", 18, 35)),
        (Sampling("dpm-solver++"), ("teacher, dpm-solver++", 35, 35)),
        (Sampling("stochastic-heun:churn=20"), ("teacher, stochastic-heun:churn=20", 18, 35)),
        (Sampling(guidance=2.0), ("teacher, guidance 2", 18, 70)),
    ],
    ids=["heun", "dpm-solver++", "stochastic-heun", "guidance"],
)
def test_a_teacher_is_sampled_as_asked(how: Sampling, row: tuple[str, int, int]) -> None:
    """At the same 35 evaluations, which guidance doubles; a student is sampled as it always is."""
    teacher = pipeline(unseen(60_000, 4), WaveModality(ModalitySettings()), role="teacher")
    made = generate("teacher", teacher, 4, how.teacher_steps(teacher), 0, False, how)
    assert (made.name, made.steps, made.nfe) == row
    student = pipeline(unseen(60_000, 4), WaveModality(ModalitySettings()))
    made = generate("model", student, 4, 1, 0, False, how)
    assert (made.name, made.nfe) == ("model", 1)


def test_sampling_that_no_model_follows_is_refused(tmp_path: Path) -> None:
    teacher = pipeline(unseen(60_000), WaveModality(ModalitySettings()), role="teacher")
    for told, how, more in (
        ("for denoising teachers", Sampling("heun"), {}),
        ("for two-time models", Sampling("jumps"), {"teacher": teacher}),
        ("no denoising teacher", Sampling(guidance=2.0), {}),
        ("hoin", Sampling("hoin"), {"teacher": teacher}),
        ("finite weight", Sampling(guidance=float("nan")), {"teacher": teacher}),
        ("for denoising teachers", Sampling("heun"), {"task": "fill"}),
    ):
        with pytest.raises(UserError, match=told):
            evaluate(request(tmp_path, how=how, **more), lambda line: None)
    assert not (tmp_path / "out").exists()


def test_a_task_beside_its_simpler_answers(tmp_path: Path) -> None:
    results = written(evaluate(request(tmp_path, FillModality, task="fill", n=12, steps=[1, 2]), lambda line: None))
    assert results["task"] == "evaluate fill"
    assert results["baselines"].keys() == {"model, 2 steps", "silence"}
    assert results["metrics"].keys() == {"psnr", "feature_distance"}
    (row, *_) = results["details"]["rows"]
    refused = next(note for note in results["notes"] if "refused" in note)
    assert row["n"] == 12 - int(refused.split()[0])
    assert "this wave starts too high" in refused
    assert "half of it was hidden" in results["notes"]
    value, low, high = row["metrics"]["psnr"]
    assert low < value < high
    assert any(note.startswith("feature_distance: LPIPS") for note in results["notes"])
    assert results["details"]["feature_hash"]


@pytest.mark.parametrize("task", [None, "fill"])
def test_seconds_are_without_what_the_first_call_sets_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str | None
) -> None:
    asked = request(tmp_path, FillModality, task=task, n=16, classifier_steps=5)
    calls, forward = [], Recalls.forward

    def slow(*words: Any, **named: Any) -> Any:
        time.sleep(0 if calls else 1)
        calls.append(1)
        return forward(*words, **named)

    monkeypatch.setattr(Recalls, "forward", slow)
    (row, *_) = written(evaluate(asked, lambda line: None))["details"]["rows"]
    assert row["seconds"] * (1 if task is None else row["n"]) < 0.9


def test_a_teacher_answers_a_task_as_asked(tmp_path: Path) -> None:
    """Heun's method takes 2 N - 1 evaluations, guidance by the item's class twice as many; the student's rows stay."""
    teacher = pipeline(unseen(60_000), FillModality(ModalitySettings()), role="teacher")
    rows = {}
    for name, how in {"own": Sampling(), "asked": Sampling("heun", 2.0)}.items():
        asked = request(tmp_path, FillModality, task="fill", n=4, steps=[2], teacher=teacher, how=how)
        results = written(evaluate(replace(asked, out=tmp_path / name), lambda line: None))
        rows[name] = {r["name"]: (r.get("nfe"), r["metrics"]["psnr"][0]) for r in results["details"]["rows"]}
        assert any("told the class" in note for note in results["notes"]) == (name == "asked")
    assert rows["own"]["teacher at equal NFE, 2 steps"][0] == 2
    assert rows["asked"]["teacher, heun, guidance 2, 2 steps"][0] == 6
    assert rows["asked"]["model, 2 steps"] == rows["own"]["model, 2 steps"]


def test_guidance_tells_a_case_its_class(tmp_path: Path) -> None:
    teacher = pipeline(unseen(60_000), FillModality(ModalitySettings()), role="teacher")
    data = teacher.modality.dataset(request(tmp_path).source(), "test")
    told = [how_to_solve(teacher, Sampling(guidance=2.0), data, i) for i in range(4)]
    assert told == [{"guidance": 2.0, "label": int(label)} for label in data.labels[:4]]
    assert how_to_solve(teacher, Sampling("heun"), data, 0) == {"sampler": "heun"}
    student = pipeline(unseen(60_000), FillModality(ModalitySettings()))
    assert how_to_solve(student, Sampling("heun", 2.0), data, 0) == {}
    two_times = pipeline(unseen(60_000), FillModality(ModalitySettings()), role="two-time")
    assert how_to_solve(two_times, Sampling("jumps"), data, 0) == {"sampler": "jumps"}
    assert how_to_solve(teacher, Sampling("jumps"), data, 0) == {}


def test_a_model_that_knows_no_items_without_a_class_is_told_each_cases(tmp_path: Path) -> None:
    asked = request(tmp_path, FillModality, task="fill", n=4)
    config = asked.pipeline.config.model_copy(update={"unconditional": False})
    always = Pipeline(asked.pipeline.model, asked.pipeline.modality, config, asked.pipeline.card)
    data = always.modality.dataset(asked.source(), "test")
    assert [how_to_solve(always, Sampling(), data, i) for i in range(2)] == [{"label": 0}, {"label": 1}]
    results = written(evaluate(replace(asked, pipeline=always), lambda line: None))
    assert "A model that knows no items without a class was told the class of each." in results["notes"]


def test_data_without_labels_have_no_feature_distance_and_say_so(tmp_path: Path) -> None:
    class Nameless(FillModality):
        labelled = False

    results = written(evaluate(request(tmp_path, Nameless, task="fill", n=4), lambda line: None))
    assert results["metrics"].keys() == {"psnr"}
    assert any(note.startswith("No feature_distance: the data have no labels") for note in results["notes"])
    assert results["details"]["feature_hash"] is None
    assert not (tmp_path / "classifiers").exists()


def test_a_task_that_can_simulate_its_measurement_does_so_unless_told_otherwise(tmp_path: Path) -> None:
    class Simulates(Fill):
        class Options(Fill.Options):
            simulate: bool = False

        def prepare(self, modality: Any, source: Any, options: Any, model: Any) -> Assignment:
            return replace(super().prepare(modality, source, options, model), notes=(f"simulated: {options.simulate}",))

    class Simulating(FillModality):
        tasks = {"fill": Simulates()}

    made = request(tmp_path, Simulating, task="fill", n=2, overwrite=True, classifier_steps=1)
    for options, told in (({}, True), ({"simulate": False}, False)):
        results = written(evaluate(replace(made, options=options), lambda line: None))
        assert f"simulated: {told}" in results["notes"]


def test_an_option_is_chosen_on_validation_cases(tmp_path: Path) -> None:
    told: list[str] = []
    made = request(tmp_path, FillModality, task="fill", n=8, tune=["result:level=0.5,80"], tune_n=3)
    # The toy answers in the data's units at its highest level alone.
    results = written(evaluate(made, told.append))
    assert results["details"]["chosen_on_validation"] == {"level": 80}
    assert sum("validation cases" in line for line in told) == 2
    with pytest.raises(UserError, match="did you mean 'silence'"):
        evaluate(request(tmp_path, FillModality, task="fill", tune=["silense:level=1"], overwrite=True), told.append)
    with pytest.raises(UserError, match=r"every validation case was refused, the first: .*'levle' \(did you mean 'level'"):
        evaluate(request(tmp_path, FillModality, task="fill", tune=["result:levle=1"], overwrite=True), told.append)


def test_mistakes_are_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'fill'"):
        evaluate(request(tmp_path, FillModality, task="fil", n=4), lambda line: None)
    with pytest.raises(UserError, match="expected the folder that holds the data sets"):
        evaluate(request(tmp_path / "missing"), lambda line: None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UserError, match="out"):
        evaluate(request(tmp_path), lambda line: None)
    student = pipeline(unseen(60_000), WaveModality(ModalitySettings()))
    told: list[str] = []
    with pytest.raises(UserError, match="denoising teacher"):
        evaluate(request(tmp_path, teacher=student, overwrite=True, search_levels=True, steps=[1, 2]), told.append)
    assert told == []  # no levels were searched


def test_the_data_set_is_the_cards_unless_named() -> None:
    assert named_in("---\ndatasets: [fsdd, other]\nlicense: x\n---\n# Title\n") == "fsdd"
    for card in ("", "# Title", "---\nlicense: x\n---\n", "---\ndatasets: fsdd\n---\n", "---\na: [\n---\n"):
        assert named_in(card) is None


def test_figures_stand_in_the_card_and_replace_former_ones() -> None:
    table = Table(columns=["", "NFE"], rows=[["model", "1"], ["a|b", None]])
    first = with_figures("# Title\n\nHeld-out figures: not measured yet; see.\n\nUse.\n", "samples", "cmd", table, ["n"])
    assert "not measured" not in first
    assert first.startswith("# Title\n\nUse.\n\n## Held-out figures: samples\n\n`cmd`\n\n|  | NFE |\n")
    assert "| a/b |  |" in first
    both = with_figures(first, "mri acceleration 4", "cmd 2", table, [])
    again = with_figures(both, "samples", "newer", table, [])
    assert again.count("## Held-out figures") == 2
    assert "`newer`" in again
    assert "`cmd`" not in again
    assert "`cmd 2`" in again


def test_a_card_that_is_no_text_is_not_written_over(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"# Mod\xe8le\n")
    with pytest.raises(UserError, match=r"README\.md: cannot be read .*in UTF-8"):
        write_figures(str(tmp_path), "samples", "cmd", Table(columns=[""], rows=[]), [])
    card.write_text("# Title\n")
    write_figures(str(tmp_path), "samples", "cmmulti evaluate \udcff", Table(columns=[""], rows=[]), [])
    assert "`cmmulti evaluate \\udcff`" in card.read_text()


def test_a_card_names_no_folder_of_one_machine(tmp_path: Path) -> None:
    model = tmp_path / "waves-model"
    model.mkdir()
    (model / "config.json").write_text("{}")  # by which a folder is known to be a model's
    (model / "README.md").write_text("---\ndatasets: [waves]\n---\n# Recalls\n")
    command = f"cmmulti evaluate {model} --data {tmp_path} --out {tmp_path / 'out'} --teacher {tmp_path / 'old'} --n 64"
    made = request(tmp_path, n=64, classifier_steps=5)
    evaluate(replace(made, model=str(model), card=True, command=command), lambda line: None)
    card = (model / "README.md").read_text()
    assert "`cmmulti evaluate waves-model --data ROOT --out DIR --teacher old --n 64`" in card
    assert "| model, 1 step | 1 | 64 |" in card
    assert str(tmp_path) not in card


def test_pairs_and_tunings_are_read_as_they_are_typed() -> None:
    assert pairs(["val-takes=3", "crop=[1, 2]", "name=a=b"], "--data-option") == {
        "val_takes": 3,
        "crop": [1, 2],
        "name": "a=b",
    }
    assert pairs(["bias=1e-3"], "--data-option") == {"bias": 0.001}  # a number, as in --set
    assert parsed("tv:tv-weight=0.1,1") == ("tv", "tv_weight", [0.1, 1])
    assert parsed("tv:tv-weight=1e-3,2e-3") == ("tv", "tv_weight", [0.001, 0.002])
    for line in ("tv", "tv:weight", "weight=1", "tv:=1", ":weight=1", "tv:weight="):
        with pytest.raises(UserError, match="NAME:KEY"):
            parsed(line)
    with pytest.raises(UserError, match="KEY=VALUE"):
        pairs(["nothing"], "--data-option")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "fill", "search_levels": True}, "--search-levels: levels are searched for samples; expected no --task"),
        ({"tune": ["result:strength=1,2"]}, "--tune 'result:strength=1,2': expected --task"),
        ({"search_levels": True, "n": 8, "steps": [1, 2]}, "n: expected at least 16 samples"),
    ],
)
def test_what_nothing_would_follow_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(request(tmp_path, FillModality, **changes), lambda line: None)
    assert not (tmp_path / "out").exists()


def test_data_that_hold_nothing_back_for_validation_are_told_where_an_option_is_to_be_tuned(tmp_path: Path) -> None:
    class AllSeen(FillModality):
        def dataset(self, source: DataSource, split: Split) -> Waves:
            return Waves(split, 0 if split == "val" else 64)

    with pytest.raises(UserError, match=r"data waves: its val part holds nothing to choose options on"):
        evaluate(request(tmp_path, AllSeen, task="fill", n=2, tune=["result:level=0.5,80"]), lambda line: None)


def test_values_to_be_tuned_are_plain() -> None:
    with pytest.raises(UserError, match=r"--tune 'result:level=\[1,2\]': expected plain values with commas"):
        parsed("result:level=[1,2]")


def test_the_options_of_the_training_say_what_was_held_out(tmp_path: Path) -> None:
    asked = request(tmp_path)
    config = asked.pipeline.config.model_copy(update={"data": Piece(name="waves", settings={"seed": 3, "val": 0.2})})
    pipe = Pipeline(asked.pipeline.model, asked.pipeline.modality, config, asked.pipeline.card)
    trained = replace(asked, pipeline=pipe)
    assert trained.source().options == {"seed": 3, "val": 0.2}
    assert replace(trained, data_option=["seed=4"]).source().options == {"seed": 4, "val": 0.2}
    assert replace(trained, dataset="folder").source().options == {}
    assert asked.source().options == {}
