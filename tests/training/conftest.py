"""Makes the toy modality and method known to the registry, and the helpers beside the tests importable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from cmmulti import registry
from cmmulti.config import RunConfig, resolve, with_overrides


def _load(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


_load("runs")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = _load("toy")
    monkeypatch.setattr(registry, "_entries", module.entries(registry._entries))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield module
    torch.set_num_threads(threads)


@pytest.fixture
def toy_values() -> dict[str, Any]:
    """A run of a second: every part that draws random numbers is in it."""
    return {
        "modality": {"name": "toy"},
        "data": {"name": "toys", "batch_size": 4},
        "network": {"name": "unet", "classes": 3, "dropout": 0.2},
        "method": {"name": "edm"},
        "optimizer": {"name": "radam", "warmup_steps": 3, "decay": "cosine"},
        "ema": {"half_lives": [0.1, 0.5], "sigma_rel": [0.1]},
        "trainer": {"max_steps": 12, "accelerator": "cpu"},
        "checkpoint": {"every_steps": 4, "keep": 3},
        "preview": {"every_steps": 6, "n": 2, "steps": [2]},
        "log": {"every_steps": 3, "tensorboard": False},
    }


@pytest.fixture
def toy_config(toy_values: dict[str, Any]) -> Callable[..., RunConfig]:
    """The resolved toy run, with overrides in the form of ``--set``."""
    return lambda *overrides: resolve(with_overrides(toy_values, overrides))
