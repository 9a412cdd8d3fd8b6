"""What runs leave behind, compared leaf by leaf, and runs in processes of their own that can be killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cmmulti.training import checkpoint


def final(run: Path, step: int = 12) -> dict[str, Any]:
    return checkpoint.load(run / f"step-{step:08d}.ckpt")


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of a checkpoint by its path."""
    if isinstance(value, dict):
        return {k2: v2 for k, v in value.items() for k2, v2 in flat(v, f"{path}/{k}").items()}
    if isinstance(value, (list, tuple)):
        return {k2: v2 for i, v in enumerate(value) for k2, v2 in flat(v, f"{path}/{i}").items()}
    return {path: value}


def assert_identical(a: dict[str, Any], b: dict[str, Any]) -> None:
    left, right = flat(a), flat(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        same = torch.equal(value, right[name]) if isinstance(value, torch.Tensor) else value == right[name]
        assert same, name


def forked(*jobs: Callable[[], Any], timeout: float = 120) -> list[int | None]:
    """Exit codes of ``jobs``, each run by a copy of this process, which needs no start-up time."""
    processes = [multiprocessing.get_context("fork").Process(target=job) for job in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes
