"""Gradients that are not finite never reach the weights, are counted where they arose, and too many end the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from runs import in_two_processes

from cmmulti.config import RunConfig, resolve
from cmmulti.errors import UserError
from cmmulti.training import checkpoint
from cmmulti.training.callbacks.log_file import read
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
QUIET = ("preview.every_steps=0", "optimizer.warmup_steps=0", "optimizer.decay=constant")


def weights(path: Path) -> torch.Tensor:
    state = checkpoint.load(path)
    averages = [tensor for average in state["ema"].values() for tensor in average]
    moments = [v for own in state["optimizer"]["state"].values() for v in own.values()]
    return torch.cat([t.flatten().float() for t in (*state["model"].values(), *averages, *moments)])


def failing(steps: str, *sets: str) -> tuple[str, ...]:
    return (f"method={{name: plain, fail_at: {steps}}}", *QUIET, *sets)


@pytest.mark.parametrize("clip", [0, 0.5])
def test_a_bad_step_is_left_out_and_counted(toy_config: Config, tmp_path: Path, clip: float) -> None:
    """Its sample lies at sigma 0.5; the mean loss is that of the others; nothing becomes NaN."""
    run = tmp_path / "run"
    module = train(toy_config(*failing("[1, 4, 5]", f"trainer.clip={clip}")), run)
    assert module.nonfinite == 3
    assert bool(weights(run / "step-00000012.ckpt").isfinite().all())
    rows = read(run / "log.csv")
    assert [r["nonfinite"] for r in rows] == [1, 2, 0, 0]
    assert rows[1]["nonfinite_0.3_1"] == 2
    assert rows[1]["nonfinite_0_0.1"] == 0
    assert all(0 < r["loss"] < 10 for r in rows)


def test_a_bad_step_changes_no_weight_by_its_own(toy_config: Config, tmp_path: Path) -> None:
    """SGD has no momentum, which Adam's rule is without betas: the weights stay exactly as they were."""
    sets = failing("[2]", "checkpoint={every_steps: 1, keep: 4}", "trainer.max_steps=4", "optimizer.betas=[0, 0]")
    train(toy_config(*sets), tmp_path / "run")
    states = [checkpoint.load(tmp_path / "run" / f"step-{i:08d}.ckpt")["model"] for i in (1, 2, 3, 4)]
    moved = [any(not torch.equal(b[k], a[k]) for k in a) for a, b in zip(states, states[1:], strict=False)]
    assert moved == [True, False, True]


def test_an_accumulated_batch_that_is_bad_leaves_the_whole_step_out(toy_config: Config, tmp_path: Path) -> None:
    module = train(toy_config(*failing("[2, 3]", "trainer.accumulate=2")), tmp_path / "run")
    assert module.nonfinite == 2
    assert bool(weights(tmp_path / "run" / "step-00000012.ckpt").isfinite().all())


def test_too_many_stop_the_run_with_one_line(toy_config: Config, tmp_path: Path, capsys: Any) -> None:
    """At the next look, which is before the next row and checkpoint; the count goes on over resumptions."""
    run = tmp_path / "run"
    sets = failing("[0, 1, 2, 6, 7]", "trainer.nonfinite=3", "log.every_steps=2", "checkpoint.every_steps=4")
    message = r"4 such steps, more than trainer\.nonfinite = 3 allows \(since the last log row at sigma 0\.3 to 1: 1\)"
    with pytest.raises(UserError, match=message) as caught:
        train(toy_config(*sets, "log.every_steps=1"), run)
    assert "\n" not in str(caught.value)
    assert "step 6" in str(caught.value)
    assert "3 of at most 3 such steps" in capsys.readouterr().err
    assert sorted(p.name for p in run.glob("*.ckpt")) == ["step-00000004.ckpt"]
    assert checkpoint.load(run / "step-00000004.ckpt")["nonfinite"] == 3
    with pytest.raises(UserError, match="4 such steps"):
        train(toy_config(*sets, "log.every_steps=1"), run, resume=True)
    module = train(toy_config(*sets, "trainer.nonfinite=5"), run, resume=True)
    assert module.nonfinite == 5


def test_the_host_looks_every_fifty_steps(toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cmmulti.training.callbacks.guard import FiniteGuard

    looks: list[int] = []
    monkeypatch.setattr(FiniteGuard, "_look", lambda self, trainer, module: looks.append(module.step))
    sets = ("trainer.max_steps=60", "log.every_steps=35", "checkpoint.every_steps=1000", "preview.every_steps=0")
    train(toy_config("method={name: plain}", *sets), tmp_path / "run")
    assert looks == [35, 50, 60]


def test_a_fault_of_the_backward_pass_is_shared_by_all_samples(toy: ModuleType, toy_config: Config, tmp_path: Path) -> None:
    """Every loss is finite here; the levels of the batch are all that is known."""
    module = train(toy_config("method={name: plain, fail_back_at: [2]}", *QUIET), tmp_path / "run")
    assert module.nonfinite == 1
    assert read(tmp_path / "run" / "log.csv")[0]["nonfinite_0.3_1"] == 1


def test_all_processes_decide_alike(toy_values: dict[str, Any], tmp_path: Path) -> None:
    """Only the first process sees the bad samples; both leave the steps out, by DDP and FSDP, and both stop."""
    toy_values |= {"method": {"name": "plain", "fail_at": [1, 3], "fail_on": 0}, "preview": {"every_steps": 0}}
    toy_values["trainer"] |= {"devices": 2, "max_steps": 4, "clip": 0.5}
    resolve(toy_values)
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(toy_values))
    words = ["train", str(file), "--out", str(tmp_path / "ddp"), "then"]
    words += ["train", str(file), "--out", str(tmp_path / "fsdp"), "--set", "trainer.strategy=fsdp", "then"]
    words += ["train", str(file), "--out", str(tmp_path / "stop"), "--set", "trainer.nonfinite=1"]
    codes, told = in_two_processes(words)
    assert codes == [2, 2], told
    assert "2 such steps, more than trainer.nonfinite = 1 allows" in told[0]
    for run in ("ddp", "fsdp"):
        assert bool(weights(tmp_path / run / "step-00000004.ckpt").isfinite().all())
        rows = read(tmp_path / run / "log.csv")
        assert [r["nonfinite"] for r in rows] == [1, 1]
        assert [r["nonfinite_0.3_1"] for r in rows] == [1, 1]
    assert not (tmp_path / "stop" / "step-00000004.ckpt").exists()
