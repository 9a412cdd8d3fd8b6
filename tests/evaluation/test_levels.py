"""Levels searched for one model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_toys import WaveModality, pipeline, unseen

from cmmulti.cli import main
from cmmulti.errors import UserError
from cmmulti.evaluation.evaluate import evaluate
from cmmulti.evaluation.generation import sampled
from cmmulti.evaluation.request import Request
from cmmulti.modality import ModalitySettings
from cmmulti.pipeline.folder import CARD, CONFIG, read_config, write_config


def searched(folder: Path, search: bool, role: str = "consistency", steps: tuple[int, ...] = (1, 2)) -> dict:
    """Results of an evaluation in which the model of ``folder`` keeps what was found."""
    pipe = pipeline(unseen(50_000), WaveModality(ModalitySettings()), role=role)
    folder.mkdir(exist_ok=True)
    (folder / CARD).write_text(pipe.card)
    write_config(folder, pipe.config)
    out = folder / f"out-{search}"
    request = Request(
        pipe, str(folder), folder, out, n=64, steps=steps, classifier_steps=100, search_levels=search, card=True
    )
    evaluate(request, lambda line: None)
    results: dict = json.loads((out / "results.json").read_text())
    return results


def test_searched_levels_are_better_and_the_model_keeps_them(tmp_path: Path) -> None:
    plain, found = (searched(tmp_path, search)["details"]["rows"] for search in (False, True))
    levels = read_config(tmp_path / CONFIG).levels
    assert levels.keys() == {2}
    assert levels[2][0] == 80
    assert 0 < levels[2][1] < 80
    # This model leaves much of the noise of the published midpoints in its samples.
    assert found[0]["frechet"][0] == plain[0]["frechet"][0]
    assert found[1]["frechet"][0] < 0.8 * plain[1]["frechet"][0]
    assert "Levels searched" in (tmp_path / CARD).read_text()


def test_levels_are_not_chosen_on_the_samples_that_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def spy(*args: Any) -> Any:
        seeds.append(args[4])
        return sampled(*args)

    monkeypatch.setattr("cmmulti.evaluation.levels.sampled", spy)
    searched(tmp_path, True)
    assert set(seeds) == {64}  # figures are of 64 samples from seeds 0 to 63


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected 2 or more among the steps, got 1"):
        searched(tmp_path, True, steps=(1,))
    with pytest.raises(UserError, match="expected a consistency model"):
        searched(tmp_path, True, role="teacher")


def test_a_model_that_is_neither_folder_nor_shipped_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", "digist", "--help"]) == 2
    assert "digist" in capsys.readouterr().err


def test_searched_levels_stay_below_the_models_highest(tmp_path: Path) -> None:
    pipe = pipeline(unseen(50_000), WaveModality(ModalitySettings()), sigma_max=14.6161)
    out = tmp_path / "out"
    evaluate(
        Request(pipe, "waves", tmp_path, out, n=16, steps=(2,), classifier_steps=2, search_levels=True), lambda line: None
    )
    rows = json.loads((out / "results.json").read_text())["details"]["rows"]
    assert rows[0]["steps"] == 2
