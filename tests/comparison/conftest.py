"""The toys in the registry, and a comparison of them in a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))

import compare_toys

from cmmulti import registry
from cmmulti.evaluation.evaluate import evaluate
from cmmulti.evaluation.request import Request


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_entries", compare_toys.entries)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


RUN: dict[str, Any] = {
    "modality": {"name": "waves"},
    "data": {"name": "waves", "batch_size": 4},
    "network": {"classes": 2},
    "method": {"name": "edm"},
    "optimizer": {"learning_rate": 1e-3},
    "trainer": {"max_steps": 6, "accelerator": "cpu"},
}

COMPARISON: dict[str, Any] = {
    "title": "Waves",
    "budget": {"steps": 8},
    "evaluation": {"n": 32, "steps": [1, 2], "classifier_steps": 20},
    "methods": {"ect": {"method": {"name": "ect", "stages": 2}, "start": "teacher"}, "ict": {"method": {"name": "ict"}}},
    "cells": {"waves": {"config": "waves.yaml", "teacher": {"config": "waves.yaml"}}},
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a comparison, with sections replaced, beside the run config of its cells."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "waves.yaml").write_text(yaml.safe_dump(RUN))

    def write(**sections: Any) -> Path:
        path = tmp_path / "compare.yaml"
        path.write_text(yaml.safe_dump({**COMPARISON, **sections}, sort_keys=False))
        return path

    return write


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Request, int]]:
    """Requests of the measurements that are made from now on, and on how many threads; each is made as asked."""
    made: list[tuple[Request, int]] = []

    def measure(request: Request, tell: Callable[[str], None]) -> Path | None:
        made.append((request, torch.get_num_threads()))
        return evaluate(request, tell)

    monkeypatch.setattr("cmmulti.comparison.work.evaluate", measure)
    return made
