"""What is known of a run, and what can be found wrong with it, in words."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from cmmulti.model import Role

Row = Mapping[str, float]


class Facts(NamedTuple):
    """What is known of a run besides its tables.

    Args:
        max_steps: its budget. role: of what it trains. taught: it started from a trained model. staged: its samples mean
            something at the end alone, as the method then makes them in its last number of steps.
        export: the average that is exported, ``raw`` for the weights themselves. settings: names of its method's settings.
        nonfinite: steps without a finite gradient that it goes on after. precision: of its networks.
    """

    max_steps: int
    role: Role = "consistency"
    taught: bool = False
    staged: bool = False
    export: str = ""
    settings: Collection[str] = ()
    nonfinite: int = 20
    precision: str = "32-true"

    def named(self, *settings: str) -> str:
        """Those of the settings that its method has, as keys of a config; empty where it has none."""
        return ", ".join(f"method.{name}" for name in settings if name in self.settings)


class Finding(NamedTuple):
    """A disease by name, what shows it in one sentence with numbers, and what to do about it in another."""

    name: str
    what: str
    advice: str


def value_of(row: Row, column: str, default: float) -> float:
    """A figure of a row; ``default`` where it was not told (nan)."""
    value = row.get(column, math.nan)
    return default if math.isnan(value) else value
