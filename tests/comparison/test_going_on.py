"""``cmmulti compare`` goes on: after a kill, beside other processes, in another place, with another config."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compare_toys import ALONE, QUICK, summary
from filelock import FileLock
from safetensors.torch import load_file

from cmmulti.cli import main
from cmmulti.comparison.compare import compare, prepare
from cmmulti.comparison.reader import load_plan
from cmmulti.comparison.schema import EvaluationConfig
from cmmulti.comparison.state import Places, State
from cmmulti.evaluation.request import Request

Writer = Callable[..., Path]


def worked_on(out: Path, entry: str) -> FileLock:
    """The lock of an entry, held as another process that works on it would."""
    (out / "entries" / "waves").mkdir(parents=True)
    lock = FileLock(out / "entries" / "waves" / f"{entry}.lock")
    lock.acquire()
    return lock


def test_a_folder_whose_name_is_no_text_is_remembered(tmp_path: Path) -> None:
    places, state = Places(tmp_path), State(identity={"run": {"data": {"root": "/data/\udcff"}}}, steps=3)
    places.save("waves", "edm", state)
    assert places.state("waves", "edm") == state


def test_a_student_that_was_stopped_is_gone_on_with_under_another_spelling_of_out(file: Writer) -> None:
    methods = {"ect": {"method": {"name": "ect"}, "start": "teacher"}}
    words = ["compare", str(file(methods=methods, budget={"steps": 3}, evaluation=QUICK)), "--out"]
    assert main([*words, "out"]) == 0
    shutil.rmtree("out/models/waves/ect")
    max(Path("out/runs/waves/ect").glob("step-*.ckpt")).unlink()
    Path("out").rename("moved")
    assert main([*words, str(Path("moved").absolute())]) == 0
    assert summary(Path("moved"))["cells"]["waves"]["models"]["ect"]["status"] == "done"


def test_what_another_process_began_with_another_config_is_not_shown_as_ones_own(file: Writer) -> None:
    path, out = file(**ALONE), Path("out")
    plan = load_plan(path, ["methods.ict.method.last=20"])
    prepare(plan, out, print)
    assert main(["compare", str(path), "--out", "out"]) == 0
    failed = compare(plan, out, "", print)
    assert failed["waves/ict"].reason == "was begun with another config: method.last = unset (now 20)"
    assert summary(out)["cells"]["waves"]["models"]["ict"]["status"] == "failed"
    assert main(["compare", str(path), "--out", "out"]) == 0
    assert summary(out)["cells"]["waves"]["models"]["ict"]["status"] == "done"


def test_processes_that_measure_otherwise_do_not_take_turns_for_ever(
    file: Writer, measurements: list[tuple[Request, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(places: Places, cell: str, method: str, asked: EvaluationConfig) -> bool:
        """Never: as soon as it is, another process replaces it."""
        if len(measurements) > 1:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(Places, "measured", measured)
    assert main(["compare", str(file(**ALONE)), "--out", "out"]) == 0


def test_figures_of_a_measurement_that_was_stopped_are_not_those_of_the_one_before(
    file: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["compare", str(file(**ALONE)), "--out", "out"]
    assert main(words) == 0

    def stopped(request: Request, tell: Callable[[str], None]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cmmulti.comparison.work.evaluate", stopped)
    assert main([*words, "--set", "evaluation.seed=1"]) == 130
    assert json.loads(Path("out/entries/waves/ict.json").read_text())["evaluation"] is None


def test_what_a_model_cost_is_known_from_its_run_where_its_state_was_removed(file: Writer, tmp_path: Path) -> None:
    words = ["compare", str(file(methods={"ict": {"method": {"name": "ict"}}})), "--out", "out"]
    assert main(words) == 0
    before = summary(Path("out"))["cells"]["waves"]["models"]["ict"]
    Path("out/entries/waves/ict.json").unlink()
    assert main(words) == 0
    after = summary(Path("out"))["cells"]["waves"]["models"]["ict"]
    known = ("steps", "seconds", "parameters", "examples", "batch_size")
    assert [after[key] for key in known] == [before[key] for key in known]


def test_killed_and_run_again_it_ends_as_if_it_had_never_been_stopped(file: Writer, tmp_path: Path) -> None:
    path = file(budget={"steps": 40}, methods={"ict": {"method": {"name": "ict"}}})
    whole, out = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, str(Path(__file__).with_name("compare_toys.py")), "compare", str(path), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "TOY_SLOW": "0.005"}, text=True)
    run, deadline = out / "runs" / "waves" / "ict", time.monotonic() + 200
    while len(list(run.glob("step-*.ckpt"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.communicate()[1] is not None
    assert process.returncode == -signal.SIGKILL
    assert not (run / "step-00000040.ckpt").exists()
    teacher = out / "models" / "waves" / "teacher" / "model.safetensors"
    before = teacher.stat().st_mtime_ns
    assert main(["compare", str(path), "--out", str(out)]) == 0
    assert teacher.stat().st_mtime_ns == before
    assert main(["compare", str(path), "--out", str(whole)]) == 0
    a, b = (load_file(folder / "models" / "waves" / "ict" / "model.safetensors") for folder in (out, whole))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    seconds = summary(out)["cells"]["waves"]["models"]["ict"]["seconds"]
    assert seconds > 0


def test_what_another_process_works_on_is_left_to_it_until_it_stops(
    file: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    other = worked_on(out, "ect")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        other.release()

    monkeypatch.setattr("cmmulti.comparison.compare.time.sleep", sleep)
    assert main(["compare", str(file()), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    order = [
        told.index(line) for line in ("waves/ict: 8 steps", "waiting for waves/ect: another process", "waves/ect: 8 s")
    ]
    assert order == sorted(order)
    assert len(waits) == 1
    assert {m["status"] for m in summary(out)["cells"]["waves"]["models"].values()} == {"done"}


def test_a_teacher_that_another_process_still_measures_is_enough_for_its_students(
    file: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {"ect": {"method": {"name": "ect"}, "start": "teacher"}}
    words = ["compare", str(file(methods=methods, budget={"steps": 2})), "--out"]
    assert main([*words, "before"]) == 0
    out = tmp_path / "out"
    other = worked_on(out, "teacher")
    student: list[bool] = []

    def sleep(seconds: float) -> None:
        student.append((out / "models" / "waves" / "ect").is_dir())
        for part in ("runs", "models"):
            shutil.copytree(Path("before", part, "waves", "teacher"), out / part / "waves" / "teacher", dirs_exist_ok=True)
        if len(student) > 1:
            other.release()

    monkeypatch.setattr("cmmulti.comparison.compare.time.sleep", sleep)
    assert main([*words, str(out)]) == 0
    assert student == [False, True]
