"""What runs leave behind, compared leaf by leaf, and runs in processes of their own that can be killed."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
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


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def in_two_processes(words: Sequence[str], timeout: float = 280) -> tuple[list[int], list[str]]:
    """Exit codes of ``toy.py`` with these words as ranks 0 and 1, and what each told on standard error."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("toy.py")), *words],
            env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        told = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], told
