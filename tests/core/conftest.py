"""What tests of methods share: random numbers that are chosen, and a network that is 0 everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cmmulti.randomness import TrainingRandomness

sys.path.insert(0, str(Path(__file__).parent))  # the problems beside the tests are imported by them


class _Chosen(TrainingRandomness):
    """Every uniform draw and every noise is the given one."""

    def __init__(self, uniform: list[float], noise: Tensor) -> None:
        super().__init__(0, 0)
        object.__setattr__(self, "values", (torch.tensor(uniform), noise))

    def uniform(self, n: int, device: torch.device | str, purpose: str) -> Tensor:
        return self.values[0].expand(n)

    def normal_like(self, x: Tensor, purpose: str = "noise") -> Tensor:
        return self.values[1].to(x).expand_as(x)


class _Silent(nn.Module):
    """The network whose output is 0, so that an estimate is ``c_skip x`` and a loss can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, time: Tensor, condition: object = None, time_next: Tensor | None = None) -> Tensor:
        return 0 * x + self.shift


@pytest.fixture
def chosen() -> Callable[[list[float], Tensor], TrainingRandomness]:
    return _Chosen


@pytest.fixture
def silent() -> nn.Module:
    return _Silent()
