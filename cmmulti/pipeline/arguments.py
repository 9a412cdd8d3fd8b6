"""What users hand to a pipeline, as the plain numbers that it works with: NumPy's and PyTorch's are as good as Python's."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any

import torch

from cmmulti.errors import UserError


def whole(name: str, value: Any, least: int | None = None) -> int:
    """A whole number of any library as an ``int``.

    Raises:
        UserError: it is no whole number, or below ``least``; the message calls it ``name``.
    """
    try:
        number = index(value)
    except TypeError as error:
        raise UserError(f"{name}: expected a whole number, got {value!r}") from error
    if least is not None and number < least:
        raise UserError(f"{name}: expected at least {least}, got {number}")
    return number


def whole_seeds(seeds: Iterable[Any]) -> list[int]:
    """Seeds as ``int``: the noise of a sample is keyed by its seed's digits, which must not depend on the type.

    Raises:
        UserError: they are no list, or one of them is no whole number.
    """
    try:
        each = list(seeds)
    except TypeError as error:
        raise UserError(f"seeds: expected a list of seeds, got {seeds!r}") from error
    return [whole("seeds", seed) for seed in each]


def plain_levels(levels: Any) -> list[float]:
    """Noise levels as floats; samplers check whether they decrease and lie in the model's range.

    Raises:
        UserError: they are no list of numbers.
    """
    try:
        return [float(level) for level in levels]
    except (TypeError, ValueError) as error:
        raise UserError(f"levels: expected decreasing noise levels, got {levels!r}") from error


def device_here(device: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        UserError: PyTorch knows no such device, or it is not in this machine.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: PyTorch built without CUDA
        raise UserError(f"device: expected one that PyTorch has here, got {str(device)!r}") from error
    return found
