"""Each disease is found in tables that were made to show it, nothing in healthy ones, and both in runs that have them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmmulti.config import RunConfig, resolve
from cmmulti.errors import UserError
from cmmulti.inspection import inspect, words
from cmmulti.training.callbacks.log_file import BINS, RANGES
from cmmulti.training.export import export
from cmmulti.training.health import Facts, Finding, findings
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
Rows = list[dict[str, float]]
FACTS = Facts(max_steps=1000, role="consistency", settings=("stages", "p_mean", "p_std"))


def log(loss: Callable[[float], float] = lambda part: 1 - 0.5 * part, **more: float) -> Rows:
    """Twenty rows of a run whose loss is a function of the part of it that is done, with an uneven gradient norm."""
    rows = []
    for i in range(1, 21):
        value = loss(i / 20) * (1 + 0.05 * math.sin(9 * i))
        rows.append({"step": 50 * i, "loss": value, **dict.fromkeys(BINS, value), "grad_norm": 2 + math.sin(i), **more})
    return rows


def validation(last: dict[str, float] | None = None, start: float = 0.4) -> Rows:
    """Rows before the first step, in the middle and at the end, of a healthy student; ``last`` changes the end."""
    healthy = {"error": 0.4, "raw_error": 0.42, "spread": 0.9, "noise": 0.0, "distance": 0.01}
    first = {"step": 0, **healthy, "spread": 0.2, **dict.fromkeys((f"error_{r}" for r in RANGES), start)}
    middle = {"step": 500, **healthy, **dict.fromkeys((f"error_{r}" for r in RANGES), 0.45)}
    return [first, middle, {**middle, "step": 1000, **(last or {})}]


def only(found: list[Finding], name: str) -> Finding:
    assert [f.name for f in found] == [name]
    assert "\n" not in found[0].what + found[0].advice
    return found[0]


def test_a_healthy_run() -> None:
    assert findings(log(), validation(), FACTS) == []
    assert findings(log(), [], FACTS) == []
    assert findings(log(stage=2.0), validation(), FACTS._replace(taught=True)) == []
    # A target that moves in stages, or is made of the network's own derivative, may raise the loss.
    for part in ("stage", "levels"):
        risen = [*log(**{part: 2.0})[:10], *log(lambda _: 9.0, **{part: 3.0})[10:]]
        assert findings(risen, [], FACTS) == []
    assert findings(log(lambda part: 1 + part, tangent_norm=1.0), [], FACTS) == []
    # Sound losses end at up to 1.09 times their least.
    assert findings(log(lambda part: 1 + 0.1 * part), [], FACTS) == []
    # Held-out items decide where they were looked at.
    assert findings(log(lambda part: 1 + 3 * part), validation(), FACTS) == []


def noisy(step: int = 1000, **last: float) -> Rows:
    """Samples that were noise before the first step and still are."""
    return [{**row, "noise": 0.9} for row in validation()[:1]] + [{**validation()[2], "noise": 0.6, "step": step, **last}]


def test_samples_stay_noise() -> None:
    found = only(findings(log(), noisy(spread=0.1), FACTS), "samples stay noise")
    assert "60%" in found.what
    assert "train longer, or start from a trained denoiser" in found.advice
    assert "--init" not in only(findings(log(), noisy(), FACTS._replace(taught=True)), "samples stay noise").advice
    early = findings(log()[:5], noisy(250), FACTS)
    assert [f.name for f in early] == ["samples stay noise", "not finished"]
    assert "early" in early[0].advice
    staged = FACTS._replace(staged=True)
    assert [f.name for f in findings(log()[:5], noisy(250), staged)] == ["not finished"]
    assert findings(log(), validation({"noise": math.nan}), FACTS) == []


def test_samples_turn_to_noise() -> None:
    found = only(findings(log(), validation({"noise": 0.3}), FACTS._replace(taught=True)), "samples turn to noise")
    assert "at step 0 they were smoother" in found.what
    assert "lower optimizer.learning_rate" in found.advice


def test_samples_got_worse_while_all_else_is_well() -> None:
    found = only(findings(log(), validation({"distance": 0.2}), FACTS), "samples got worse")
    assert "0.01 at step 0 and is now 0.2" in found.what
    assert findings(log(), validation({"distance": 0.09}), FACTS) == []
    assert findings(log(), validation({"distance": 0.2}), FACTS._replace(staged=True)) == []


def test_a_method_in_stages_ends_with_a_sample_as_its_answer() -> None:
    """Progressive distillation of digits from 4 steps to 1: errors away from sigma_max drift, and nothing is wrong."""
    facts = FACTS._replace(staged=True, taught=True, role="teacher")
    drifted = {"error_0.1_0.3": 1.5, "error_0.3_1": 3.4, "error_1_3": 1.2, "distance": 0.002}
    assert findings(log(), validation(drifted), facts) == []
    found = only(findings(log(), validation({**drifted, "error_1_3": math.inf}), facts), "learning rate too high")
    assert "grew at 1 of 6 noise levels, at noise levels 1 to 3 from 0.4 to inf" in found.what


def test_only_keys_that_the_method_has_are_advised() -> None:
    tables = [validation({"spread": 0.12}), validation({"error_3_10": 2.0}), validation({"distance": 0.2})]
    keys = ("method.stages", "method.p_mean, method.p_std", "method.p_mean, method.p_std")
    for table, key in zip(tables, keys, strict=True):
        assert key in findings(log(), table, FACTS)[0].advice
        (found,) = findings(log(), table, FACTS._replace(settings=("levels", "solver")))
        assert "method." not in found.advice
        assert "optimizer.learning_rate" in found.advice


def test_collapse() -> None:
    found = only(findings(log(), validation({"spread": 0.12}), FACTS), "collapse")
    assert "12%" in found.what
    assert "curriculum" in found.advice
    assert "spread last" in findings(log(), validation({"spread": 0.12}), FACTS._replace(role="teacher"))[0].advice
    assert only(findings(log(), validation({"spread": math.inf}), FACTS), "samples are not finite")


def test_a_noise_level_diverges() -> None:
    found = only(findings(log(), validation({"error_3_10": 2.0}), FACTS), "noise level diverges")
    assert "3 to 10 went from 0.4 to 2" in found.what
    hopeless = validation({"error_10_max": 3.5})
    for row in hopeless[:2]:
        row["error_10_max"] = 1.6
    assert "10 and more" in only(findings(log(), hopeless, FACTS), "noise level diverges").what
    assert findings(log(), validation({"error_3_10": 0.9}), FACTS) == []
    assert only(findings(log(), validation({"error_3_10": 0.9}), FACTS._replace(role="teacher")), "noise level diverges")


def test_a_noise_level_is_held_to_its_best() -> None:
    """Not to its start, which for a network without a teacher is as bad as can be."""
    grown = validation({"error_3_10": 1.3}, start=1.6)
    assert "3 to 10 went from 0.45 to 1.3" in only(findings(log(), grown, FACTS), "noise level diverges").what
    falling = validation({"error_10_max": 3.2})
    falling[0]["error_10_max"], falling[1]["error_10_max"] = 6.0, 4.0
    assert findings(log(), falling, FACTS) == []


def test_half_of_the_levels_are_single_ones_and_the_worst_is_told() -> None:
    """By growth, not by size."""
    grown = validation({"error_1_3": 2.0, "error_3_10": 2.4, "error_10_max": 2.9})
    for row in grown[:2]:
        row["error_10_max"] = 1.1
    assert "3 to 10 went from 0.4 to 2.4" in only(findings(log(), grown, FACTS), "noise level diverges").what


def test_a_student_forgot_its_teacher() -> None:
    taught = FACTS._replace(taught=True)
    found = only(
        findings(log(), validation({"error_0.1_0.3": 1.5, "error_0.3_1": 1.3}), taught), "student forgot its teacher"
    )
    assert "1.5 instead of 0.4 at noise levels 0.1 to 0.3" in found.what
    everywhere = dict.fromkeys((f"error_{r}" for r in RANGES), 0.75)
    assert "1.9 times" in only(findings(log(), validation(everywhere), taught), "student forgot its teacher").what
    assert findings(log(), validation(everywhere), FACTS) == []
    # Students that kept their teacher measured up to 1.4 overall; a level that got better makes up for others.
    assert findings(log(), validation(dict.fromkeys(everywhere, 0.58)), taught) == []
    assert findings(log(), validation({**dict.fromkeys(everywhere, 0.88), "error_0.1_0.3": 0.12}), taught) == []


def test_a_learning_rate_too_high() -> None:
    everywhere = dict.fromkeys((f"error_{r}" for r in RANGES), 2.5)
    assert "6 of 6" in only(findings(log(), validation(everywhere), FACTS), "learning rate too high").what
    broken = validation({"error_1_3": math.inf})
    assert "inf" in only(findings(log(), broken, FACTS._replace(taught=True)), "learning rate too high").what
    rising = log(lambda part: 0.5 + abs(part - 0.3))
    assert "the loss rose from" in only(findings(rising, [], FACTS), "learning rate too high").what


def test_an_average_not_useful_yet() -> None:
    facts = FACTS._replace(export="half-life-0.05")
    found = only(findings(log(), validation({"error": 0.9, "raw_error": 0.42}), facts), "average not useful yet")
    assert "half-life-0.05" in found.what
    assert "0.9, the weights themselves have 0.42" in found.what
    assert findings(log(), validation({"error": 0.43}), FACTS) == []


def test_gradients_that_are_not_finite() -> None:
    rows = log(nonfinite=0.0)
    rows[3] |= {"nonfinite": 4.0, "nonfinite_10_max": 3.0, "nonfinite_3_10": 1.0}
    found = only(findings(rows, validation(), FACTS), "non-finite gradients")
    assert "4 of 1000 steps" in found.what
    assert "75% of that at noise levels 10 and more" in found.what
    assert "precision" not in found.advice
    assert "32-true" in findings(rows, validation(), FACTS._replace(precision="bf16-mixed"))[0].advice
    older = log()
    older[7]["grad_norm"] = math.inf
    assert "1 of 20 rows, first at step 400" in only(findings(older, [], FACTS), "non-finite gradients").what


def test_a_few_steps_that_were_left_out_of_many() -> None:
    rows = [{**row, "step": 1000 * row["step"]} for row in log(nonfinite=0.0)]
    rows[3] |= {"nonfinite": 1.0, "nonfinite_10_max": 1.0}
    assert findings(rows, [], FACTS._replace(max_steps=1_000_000)) == []
    # A run that was about to be ended by them, or was.
    rows[3]["nonfinite"] = 15.0
    assert "15 of 1000000 steps" in findings(rows, [], FACTS._replace(max_steps=1_000_000))[0].what


def test_not_finished() -> None:
    assert "step 500 of 1000 (50%)" in only(findings(log()[:10], validation()[:2], FACTS), "not finished").what
    assert "step 0 of 1000" in only(findings([], [], FACTS), "not finished").what
    assert findings([], [], FACTS)[0].advice == "If it no longer runs, go on with train --resume"
    broken = log(nonfinite=1.0)[:10]
    first, last = findings(broken, validation()[:2], FACTS)
    assert first.advice.startswith("Start again")
    assert "nothing above says to start again" in last.advice


def health(run: Path) -> dict[str, str] | str:
    facts = inspect(run)
    assert "health" in words(facts)
    found: dict[str, str] | str = facts["health"]
    return found


DIGITS: dict[str, Any] = {
    "modality": {"name": "image", "size": [8, 8], "channels": 1, "classes": 10},
    "data": {"name": "digits", "batch_size": 32},
    "network": {"name": "unet", "channels": [16, 16], "blocks": 1, "attention": []},
    "trainer": {"accelerator": "cpu", "threads": 1, "max_steps": 60, "nonfinite": 5},
    "preview": {"every_steps": 0},
    "log": {"every_steps": 10, "tensorboard": False},
}


def digits(method: str, rate: float, **more: object) -> RunConfig:
    return resolve({**DIGITS, "method": {"name": method}, "optimizer": {"name": "adam", "learning_rate": rate}, **more})


def test_runs_that_are_ill(tmp_path: Path) -> None:
    """Untrained; a rate far too high; an average that lags; a student whose rate is 300 times too high, and at its own."""
    train(digits("ect", 1e-9, trainer={**DIGITS["trainer"], "max_steps": 3}), tmp_path / "still")
    assert "white noise" in health(tmp_path / "still")["samples stay noise"]

    with pytest.raises(UserError, match="not finite"):
        train(digits("edm", 1.0), tmp_path / "wild")
    assert {"non-finite gradients", "not finished"} == set(health(tmp_path / "wild"))

    longer = {**DIGITS["trainer"], "max_steps": 120}
    train(digits("edm", 5e-3, ema={"half_lives": [0.05, 1.0], "ramp": 0.0}, trainer=longer), tmp_path / "teacher")
    assert "half-life-1 has" in health(tmp_path / "teacher")["average not useful yet"]
    export(tmp_path / "teacher", tmp_path / "model", "half-life-0.05")

    start = str(tmp_path / "model")
    train(digits("ect", 1e-1, init=start), tmp_path / "forgot")
    assert "student forgot its teacher" in health(tmp_path / "forgot")
    train(digits("ect", 3e-4, init=start), tmp_path / "good")
    assert health(tmp_path / "good") == "nothing looks wrong"
    train(digits("ect", 3e-4, init=start, validation={"every_steps": 0}), tmp_path / "unseen")
    assert "no held-out items were looked at (validation.every_steps is 0)" in health(tmp_path / "unseen")
    table = tmp_path / "good" / "validation.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:2]))
    assert "(but at step 0)" in health(tmp_path / "good")
    table.unlink()
    assert "(its data hold nothing back)" in health(tmp_path / "good")
