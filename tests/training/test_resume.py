"""A run that is stopped, killed or damaged ends bit-identical to one that never was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock
from runs import assert_identical, final, forked

from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.training import checkpoint
from cmmulti.training.callbacks import cost
from cmmulti.training.callbacks.log_file import read
from cmmulti.training.run import train

Config = Callable[..., RunConfig]


def flip_a_weight(path: Path) -> None:
    """Change one bit of the largest tensor in a checkpoint."""
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda i: i.file_size)
        content = archive.read(record)
    data = bytearray(path.read_bytes())
    data[data.index(content) + len(content) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_ends_bit_identical(toy_config: Config, tmp_path: Path, workers: int) -> None:
    train(toy_config(f"data.workers={workers}"), tmp_path / "whole")
    run = tmp_path / "stopped"
    train(toy_config(), run)
    for path in (run / "step-00000008.ckpt", run / "step-00000012.ckpt"):
        path.unlink()
    train(toy_config(), run, resume=True)
    assert_identical(final(tmp_path / "whole"), final(run))
    assert [row["step"] for row in read(run / "log.csv")] == [3, 6, 9, 12]


def test_previews_and_log_do_not_disturb_the_run(toy_config: Config, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "with")
    torch.manual_seed(99)
    train(toy_config("preview.every_steps=0", "log.every_steps=5", "checkpoint.every_steps=12"), tmp_path / "without")
    assert (tmp_path / "with" / "previews" / "step-00000006-2steps.png").is_file()
    assert_identical(final(tmp_path / "with"), final(tmp_path / "without"))


def test_kill_at_any_moment_and_resume(toy_values: dict[str, Any], toy_config: Config, tmp_path: Path) -> None:
    toy_values["trainer"]["max_steps"] = 60
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(toy_values))
    whole, run = tmp_path / "whole", tmp_path / "killed"
    train(toy_config(), whole)
    words = [sys.executable, str(Path(__file__).with_name("toy.py")), "train", str(file), "--out", str(run), "--resume"]
    # The child sleeps in each step, so that it is killed somewhere in the middle however fast the machine is.
    process = subprocess.Popen(words, stderr=subprocess.PIPE, env={**os.environ, "TOY_SLOW": "0.005"}, text=True)
    deadline = time.monotonic() + 60
    while not list(run.glob("step-*.ckpt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.137)
    process.send_signal(signal.SIGKILL)
    _, told = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL, told
    assert "no checkpoint; starting at step 0" in told
    assert not (run / "step-00000060.ckpt").exists()
    train(toy_config(), run, resume=True)
    assert_identical(final(whole, 60), final(run, 60))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_polite_kill_saves_the_run(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], accumulate: int
) -> None:
    """The step that is being made is finished and kept, with what it cost and what nobody had looked at yet."""
    sets = ("checkpoint.every_steps=100", "preview.every_steps=0", f"trainer.accumulate={accumulate}")
    whole, run = tmp_path / "whole", tmp_path / "stopped"
    train(toy_config("method={name: plain, fail_at: [3]}", *sets), whole)
    killed = toy_config("method={name: plain, fail_at: [3], kill_at: 4}", *sets)
    with pytest.raises(SystemExit) as caught:
        train(killed, run)
    assert caught.value.code == 143
    assert "terminated at step 5; --resume goes on there" in capsys.readouterr().err
    assert [p.name for p in run.glob("*.ckpt")] == ["step-00000005.ckpt"]
    assert final(run, 5)["nonfinite"] == 1
    train(killed, run, resume=True)
    assert_identical(final(whole), final(run))
    assert [step for step, _ in cost.read(run / cost.COST)] == [5, 12]
    assert sum(row["nonfinite"] for row in read(run / "log.csv")) == 1


def test_a_polite_kill_of_a_whole_group_leaves_the_loaders_at_work(
    toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Any
) -> None:
    loss = toy.Plain.loss

    def killed_in_step_2(method: Any, model: Any, x0: Any, condition: Any, progress: Any, randomness: Any) -> Any:
        if progress.step == 2:
            subprocess.run(["kill", "-TERM", "0"], check=False)  # not os.kill: a loader takes its parent's for the end
            time.sleep(0.5)
        return loss(method, model, x0, condition, progress, randomness)

    def job() -> None:
        os.setsid()
        train(toy_config("method={name: plain}", "data.workers=2", "trainer.max_steps=40"), tmp_path)

    monkeypatch.setattr(toy.Plain, "loss", killed_in_step_2)
    assert forked(job) == [143]
    assert [p.name for p in tmp_path.glob("*.ckpt")] == ["step-00000003.ckpt"]


def test_ctrl_c_is_an_interruption(toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Any) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(toy.Plain, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(toy_config("method={name: plain}"), tmp_path / "run")
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_damaged_newest_checkpoint_falls_back_to_the_previous_one(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(toy_config(), run)
    expected = final(run)
    newest = run / "step-00000012.ckpt"
    flip_a_weight(newest)
    train(toy_config(), run, resume=True)
    told = capsys.readouterr().err
    assert "step-00000012.ckpt: damaged checkpoint (checksum" in told
    assert "step-00000008.ckpt: resuming at step 8" in told
    assert_identical(expected, final(run))


def test_damaged_checkpoints_do_not_count_among_those_kept(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=8", "checkpoint.every_steps=2", "checkpoint.keep=2"), run)
    flip_a_weight(run / "step-00000008.ckpt")
    train(toy_config("trainer.max_steps=7", "checkpoint.every_steps=100", "checkpoint.keep=1"), run, resume=True)
    assert [p.name for p in run.glob("*.ckpt")] == ["step-00000007.ckpt"]


def test_checkpoints_are_counted_by_number(tmp_path: Path) -> None:
    for step in (99_999_998, 99_999_999, 100_000_000):
        state = {"format": checkpoint.FORMAT, "step": step, "model": {}}
        checkpoint.save(state, tmp_path, keep=2)
    assert {p.name for p in tmp_path.iterdir()} == {"step-99999999.ckpt", "step-100000000.ckpt"}
    found = checkpoint.newest(tmp_path, print)
    assert found is not None
    assert found[1]["step"] == 100_000_000


@pytest.mark.parametrize("cut", [0, 10, 3000])
def test_truncated_checkpoint_is_a_user_error(toy_config: Config, tmp_path: Path, cut: int) -> None:
    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=1"), run)
    path = run / "step-00000001.ckpt"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"step-00000001\.ckpt: damaged"):
        checkpoint.load(path)
    with pytest.raises(UserError, match="all 1 checkpoints are damaged"):
        train(toy_config("trainer.max_steps=1"), run, resume=True)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "owned"),))

    path = tmp_path / "step-00000001.ckpt"
    torch.save({"format": 1, "step": 1, "evil": Evil()}, path)
    with pytest.raises(UserError, match="damaged checkpoint"):
        checkpoint.load(path)
    assert not (tmp_path / "owned").exists()


def test_resume_with_another_config_is_refused(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=2"), run)
    with pytest.raises(UserError, match=r"network\.channels = \[16\], expected \[8\]; trainer\.seed = 5, expected 0"):
        train(toy_config("network.channels=[16]", "trainer.seed=5"), run, resume=True)
    train(toy_config("trainer.max_steps=3", "log.every_steps=1"), run, resume=True)
    assert (run / "step-00000003.ckpt").is_file()


def test_a_second_run_in_the_same_folder_is_refused(toy_config: Config, tmp_path: Path) -> None:
    train(toy_config("trainer.max_steps=1"), tmp_path / "run")
    with pytest.raises(UserError, match="already holds a run; add --resume"):
        train(toy_config("trainer.max_steps=1"), tmp_path / "run")


def test_two_processes_do_not_train_in_one_folder(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=1"), run)
    written_by_the_first = run / ".step-00000002-abc.ckpt"
    written_by_the_first.touch()
    with FileLock(run / ".lock"), pytest.raises(UserError, match="run: another process is training here; wait"):
        train(toy_config("trainer.max_steps=2"), run, resume=True)
    assert written_by_the_first.exists()
    train(toy_config("trainer.max_steps=2"), run, resume=True)
    assert not written_by_the_first.exists()


def test_a_run_that_begins_again_measures_its_beginning_once(toy_config: Config, tmp_path: Path) -> None:
    sets = ("trainer.max_steps=2", "validation={every_steps: 1, n: 4}")
    train(toy_config(*sets), tmp_path)
    for path in tmp_path.glob("*.ckpt"):
        path.unlink()
    train(toy_config(*sets), tmp_path, resume=True)
    assert [row["step"] for row in read(tmp_path / "validation.csv")] == [0, 1, 2]


def test_optimiser_restart_of_a_method_survives_resuming(toy_config: Config, tmp_path: Path) -> None:
    sets = ("method={name: plain, reset_at: 6}", "optimizer.warmup_steps=4", "optimizer.decay=linear")
    train(toy_config(*sets), tmp_path / "whole")
    run = tmp_path / "stopped"
    train(toy_config(*sets), run)
    (run / "step-00000012.ckpt").unlink()
    assert final(run, 8)["stage_start"] == 6
    train(toy_config(*sets), run, resume=True)
    assert_identical(final(tmp_path / "whole"), final(run))


def test_full_disk_leaves_no_half_written_checkpoint(
    toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(state: Any, file: Any) -> None:
        file.write(b"PK half")
        raise OSError(28, "No space left on device")

    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=4"), run)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"cannot write the checkpoint .No space left on device."):
        train(toy_config("trainer.max_steps=8"), run, resume=True)
    assert [p.name for p in run.glob("*.ckpt")] == ["step-00000004.ckpt"]
