"""Tiny settings under which everything that is registered can be tested.

A third party's class offers its own by a classmethod ``tiny()`` that returns an instance; without one it is made with no
arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from cmmulti import registry
from cmmulti.operators.base import LinearOperator
from cmmulti.operators.fourier import Fourier
from cmmulti.operators.resample import BlockMean

_SHAPE = (3, 7, 9)


def _checkered(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).view(shape) % 3 > 0


def _angles(*shape: int) -> torch.Tensor:
    return torch.linspace(-3, 3, torch.Size(shape).numel(), dtype=torch.float64).view(shape)


_OPERATORS: Mapping[str, Callable[[Any], LinearOperator]] = {
    "mask": lambda cls: cls(_checkered((1, 1, 7, 9)), _SHAPE),
    "fourier": lambda cls: cls(_SHAPE),
    "phase": lambda cls: cls(_angles(1, *_SHAPE)),
    "coils": lambda cls: cls(torch.polar(_angles(1, *_SHAPE).abs() + 0.1, _angles(1, *_SHAPE))),
    "block-mean": lambda cls: cls(_SHAPE, 2),
    "resample": lambda cls: cls(_SHAPE, (3, 4)),
    "channel-mix": lambda cls: cls(torch.tensor([[0.3, 0.6, 0.1], [1.0, -1.0, 0.0]]), _SHAPE),
    "restriction": lambda cls: cls(_checkered((7, 9)), _SHAPE),
    "stack": lambda cls: cls([BlockMean((1, 7, 9), 2), Fourier((1, 7, 9)) @ _phase((1, 7, 9))]),
    "permutation": lambda cls: cls(_SHAPE, (torch.arange(63) * 5 % 63).view(9, 7)),
    "weights": lambda cls: cls(1 + _angles(1, *_SHAPE).abs()),
    "radon": lambda cls: cls((1, 12, 12), torch.linspace(0, 3, 7, dtype=torch.float64)),
}

# Fewer steps of the teacher than its authors', which would be most of the suite's time.
_METHODS: Mapping[str, Callable[[Any], Any]] = {"ctm": lambda cls: cls(cls.Settings(levels=6))}


def _phase(domain: tuple[int, ...]) -> LinearOperator:
    from cmmulti.operators.fourier import Phase

    return Phase(_angles(1, *domain))


def operators() -> dict[str, LinearOperator]:
    """One small instance of every registered operator, by name."""
    return _made("operators", _OPERATORS)


def solvers() -> dict[str, Any]:
    """One instance of every registered solver, by name."""
    return _made("solvers", {})


def methods() -> dict[str, Any]:
    """One instance of every registered method, by name."""
    return _made("methods", _METHODS)


def _made(group: str, table: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    pieces = {}
    for name in registry.names(group):
        cls = registry.load(group, name)
        if hasattr(cls, "tiny"):
            pieces[name] = cls.tiny()
        elif name in table:
            pieces[name] = table[name](cls)
        else:
            pieces[name] = cls()
    return pieces
