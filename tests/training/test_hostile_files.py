"""Damaged checkpoints, logs and records are told in one line, whatever was done to them."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cmmulti.config import RunConfig, load_config
from cmmulti.errors import UserError
from cmmulti.inspection.runs import checkpoint_file
from cmmulti.training import checkpoint, folder
from cmmulti.training.callbacks.log_file import COLUMNS, LogFile, read
from cmmulti.training.export import export
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
CASES = 500


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One of: a flipped bit, a cut, a doubled piece, random bytes over a piece."""
    changed = bytearray(data)
    at = rng.randrange(len(changed))
    kind = rng.randrange(4)
    if kind == 0:
        changed[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        changed[at:at] = changed[at : at + rng.randrange(64)]
    else:
        changed[at : at + 8] = rng.randbytes(8)
    return bytes(changed)


def test_mutated_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "step-00000003.ckpt"
    weights = torch.arange(24.0)
    torch.save({"format": 1, "step": 3, "model": {"a": weights, "b": torch.ones(3)}}, path)
    good, rng = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(CASES):
        path.write_bytes(mutated(good, rng))
        told = ""
        try:
            loaded = checkpoint.load(path)
        except UserError as error:
            told = str(error)
        if told:
            refused += 1
            assert str(path) in told
            assert "\n" not in told
        else:  # what was changed is padding: the content is what was saved
            assert torch.equal(loaded["model"]["a"], weights)
    assert refused > CASES / 4


def test_mutated_configs(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "configs" / "image" / "digits-ect.yaml"
    good, rng = source.read_bytes(), random.Random(1)
    path = tmp_path / "x.yaml"
    for _ in range(CASES):
        path.write_bytes(mutated(good, rng))
        with contextlib.suppress(UserError):  # whose message is one line by construction
            load_config(path)


def test_mutated_logs_and_records_are_never_fatal(tmp_path: Path) -> None:
    rng = random.Random(2)
    log = b"step,images,loss\n" + b"".join(b"%d,%d,0.5\n" % (i, i) for i in range(9))
    record = json.dumps({"command": "cmmulti train x", "classes": ["a"]}).encode()
    for _ in range(100):
        (tmp_path / "log.csv").write_bytes(mutated(log, rng))
        read(tmp_path / "log.csv")
        LogFile(tmp_path / "log.csv", COLUMNS).begin(5)
        (tmp_path / folder.RECORD).write_bytes(mutated(record, rng))
        assert isinstance(folder.read_record(tmp_path), folder.RunRecord)


def test_a_run_of_another_modality_or_a_broken_config_is_told(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=1"), run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("channels: [8]", "channels: [16]"))
    with pytest.raises(UserError, match="checkpoint of another architecture"):
        export(run, tmp_path / "out")
    (run / "config.yaml").write_text(text)
    newest = run / "step-00000001.ckpt"
    for content in ({"format": 1, "step": 1}, {"format": 1, "step": 1, "model": [1], "ema": 3}, {"step": 1}, [1]):
        torch.save(content, newest)
        with pytest.raises(UserError, match=r"step-00000001\.ckpt|all 1 checkpoints are damaged"):
            export(run, tmp_path / "out")
        with pytest.raises(UserError, match=r"step-00000001\.ckpt|all 1 checkpoints are damaged"):
            train(toy_config("trainer.max_steps=2"), run, resume=True)
    broken = text[: text.index("ema:")]
    (run / "config.yaml").write_text(broken)
    with pytest.raises(UserError, match=r"config\.yaml"):
        train(toy_config("trainer.max_steps=2"), run, resume=True)
    assert (run / "config.yaml").read_text() == broken
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite_are_not_exported(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=1"), run)
    path = run / "step-00000001.ckpt"
    state = checkpoint.load(path)
    state["ema"]["half-life-0.5"][3].fill_(float("inf"))
    torch.save(state, path)
    with pytest.raises(UserError, match=r"of half-life-0\.5 holds NaN or infinity"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_with_keys_of_many_kinds_is_described(tmp_path: Path) -> None:
    path = tmp_path / "step-00000003.ckpt"
    torch.save({"format": 1, "step": 3, "model": {}, 5: 1, None: 2}, path)
    assert checkpoint_file(path)["holds"] == ["5", "None", "model"]
