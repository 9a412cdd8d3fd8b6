"""Two processes, or two accumulated batches, take the same steps as one process with the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from runs import assert_identical, final, flat, in_two_processes

from cmmulti.config import RunConfig, resolve
from cmmulti.errors import UserError
from cmmulti.training import checkpoint
from cmmulti.training.callbacks.log_file import read
from cmmulti.training.run import train
from cmmulti.training.strategy import strategy_of

Config = Callable[..., RunConfig]


@pytest.fixture
def values() -> dict[str, Any]:
    """A run whose loss draws nothing, since draws are keyed by process."""
    return {
        "modality": {"name": "toy"},
        "data": {"name": "toys", "batch_size": 8},
        "method": {"name": "plain"},
        "trainer": {"max_steps": 4, "accelerator": "cpu", "clip": 0.5},
        "checkpoint": {"every_steps": 2},
        "preview": {"every_steps": 4, "n": 1, "steps": [1]},
        "log": {"every_steps": 2, "tensorboard": False},
    }


def assert_same_run(a: Path, b: Path, step: int) -> None:
    first, second = (checkpoint.load(run / f"step-{step:08d}.ckpt") for run in (a, b))
    assert first["model"].keys() == second["model"].keys()
    for name, tensor in first["model"].items():
        torch.testing.assert_close(tensor, second["model"][name], rtol=1e-4, atol=1e-5, msg=name)
    for name, average in first["ema"].items():
        torch.testing.assert_close(average, second["ema"][name], rtol=1e-4, atol=1e-5)
    rows = [[(r["step"], r["loss"], r["grad_norm"]) for r in read(run / "log.csv")] for run in (a, b)]
    torch.testing.assert_close(torch.tensor(rows[0]), torch.tensor(rows[1]), rtol=1e-4, atol=1e-6)


def test_two_processes_equal_one(values: dict[str, Any], tmp_path: Path) -> None:
    """DDP, then FSDP, then an FSDP checkpoint that is gone on with, in the same two gloo processes."""
    train(resolve(values), tmp_path / "one")
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(values))
    two = [str(file), "--set", "trainer.devices=2"]
    sharded = [*two, "--out", str(tmp_path / "fsdp"), "--set", "trainer.strategy=fsdp"]
    words = ["train", *two, "--out", str(tmp_path / "ddp"), "then", "train", *sharded, "--set", "trainer.max_steps=2"]
    words += ["then", "train", *sharded, "--resume"]
    codes, told = in_two_processes(words)
    assert codes == [0, 0], told
    assert told[0].count("step 4/4") == 2
    assert told[1] == ""
    assert_same_run(tmp_path / "one", tmp_path / "ddp", 4)
    # The sharded run was told a budget of 2 steps first, which the averages' half-lives depend on but not the weights.
    assert (tmp_path / "fsdp" / "previews" / "step-00000004-1steps.png").is_file()
    first, second = (checkpoint.load(tmp_path / run / "step-00000004.ckpt") for run in ("one", "fsdp"))
    for name, tensor in first["model"].items():
        torch.testing.assert_close(tensor, second["model"][name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_polite_kill_of_one_process_stops_and_saves_all(values: dict[str, Any], tmp_path: Path) -> None:
    """The second process is killed under DDP, then the first under FSDP, whose processes gather the weights together."""
    values |= {"checkpoint": {"every_steps": 100}, "preview": {"every_steps": 0}, "validation": {"every_steps": 0}}
    values["trainer"] |= {"devices": 2}
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(values))
    whole, ddp, fsdp = (["train", str(file), "--out", str(tmp_path / name)] for name in ("whole", "ddp", "fsdp"))
    ddp += ["--set", "method.kill_at=1", "--set", "method.kill_on=1"]
    fsdp += ["--set", "method.kill_at=1", "--set", "trainer.strategy=fsdp"]
    codes, told = in_two_processes([*whole, "then", *ddp])
    assert codes == [143, 143], told
    # It came in the second step, and the first process heard of it while the third was computed.
    assert "terminated at step 3; --resume goes on there" in told[0]
    assert [p.name for p in (tmp_path / "ddp").glob("*.ckpt")] == ["step-00000003.ckpt"]
    codes, told = in_two_processes([*ddp, "--resume", "then", *fsdp])
    assert codes == [143, 143], told
    assert_identical(final(tmp_path / "whole", 4), final(tmp_path / "ddp", 4))
    first, second = (final(tmp_path / name, 3)["model"] for name in ("ddp", "fsdp"))
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-4, atol=1e-5, msg=name)


def test_accumulated_batches_equal_the_whole_batch(values: dict[str, Any], tmp_path: Path) -> None:
    train(resolve(values), tmp_path / "one")
    values["trainer"]["accumulate"] = 4
    train(resolve(values), tmp_path / "four")
    assert_same_run(tmp_path / "one", tmp_path / "four", 4)


def test_a_forward_mode_method_with_weights_of_its_own_is_sharded(values: dict[str, Any], tmp_path: Path) -> None:
    """sCT's weights, its learned weighting and both moments after FSDP with a resumption are those of DDP."""
    values["method"] = {"name": "sct", "warmup": 2}
    values["optimizer"] = {"decay": "constant", "learning_rate": 0.01}
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(values))
    two = ["train", str(file), "--set", "trainer.devices=2", "--out"]
    sharded = [*two, str(tmp_path / "fsdp"), "--set", "trainer.strategy=fsdp"]
    first = [*sharded, "--set", "trainer.max_steps=2"]
    codes, told = in_two_processes([*two, str(tmp_path / "ddp"), "then", *first, "then", *sharded, "--resume"])
    assert codes == [0, 0], told
    ddp, fsdp = (flat(checkpoint.load(tmp_path / run / "step-00000004.ckpt")) for run in ("ddp", "fsdp"))
    assert any("/method/weight" in name and value.any() for name, value in ddp.items())
    for name, value in ddp.items():
        if isinstance(value, torch.Tensor) and not name.startswith("/ema"):  # half-lives are shares of the budget told
            torch.testing.assert_close(value, fsdp[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["trainer.compile=true"], "compile"),
        (["trainer.precision=bf16-mixed"], "precision"),
        *(([f"method={{name: {name}}}"], f"method.name = '{name}'") for name in ("cd", "ct", "ctm", "lcm", "progressive")),
    ],
)
def test_fsdp_is_refused_by_name_where_it_does_not_fit(toy_config: Config, sets: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"trainer.strategy = 'fsdp' with .*{message}"):
        strategy_of(toy_config("trainer.strategy=fsdp", "trainer.devices=2", *sets))
