"""Facts about an item, read off the dataclass that an adapter holds it in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from cmmulti.errors import UserError

SMALL = 16
"""Most numbers of an array that are told one by one."""


class UnclaimedError(UserError):
    """Raised by ``Modality.describe`` for what is not the adapter's: an intact file of one of its suffixes that holds
    something else, or a folder that is not one of its items."""


def facts(item: Any) -> dict[str, Any]:
    """Fields and properties of a dataclass as JSON: large arrays by shape, type and range, other objects left out."""
    names = [field.name for field in dataclasses.fields(item)]
    names += [name for name, value in vars(type(item)).items() if isinstance(value, property)]
    found = {name: _fact(getattr(item, name)) for name in names if not name.startswith("_")}
    return {name: value for name, value in found.items() if value is not None}


def _fact(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray):
        return value.tolist() if value.size <= SMALL else _array(value)
    if isinstance(value, (tuple, list)) and value:
        told = [_fact(part) for part in value[:SMALL]]
        return None if None in told else told
    return None


def _array(value: np.ndarray) -> dict[str, Any]:
    told: dict[str, Any] = {"shape": list(value.shape), "type": str(value.dtype)}
    if value.dtype.kind in "iufb":
        told |= {"smallest": value.min().item(), "largest": value.max().item()}
    return told
