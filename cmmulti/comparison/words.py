"""Words and numbers as a comparison's page writes them."""

from __future__ import annotations

from collections.abc import Sequence

from cmmulti.comparison.summary import Standing
from cmmulti.report.figures import figure


def numbers(each: Standing, key: str) -> str:
    """A figure of every row of a model in one cell of a table; how the model stands where there are none yet."""
    if each.status != "done":
        return each.status
    return " · ".join(number(row, key) for row in each.rows)


def number(row: dict[str, object], key: str) -> str:
    """A figure of one row, rounded as its kind is; of one with an interval, without it."""
    metrics = row.get("metrics")
    value = metrics[key] if isinstance(metrics, dict) and key in metrics else row.get(key)
    value = value[0] if isinstance(value, list) else value
    if key == "seconds" and isinstance(value, float):
        return f"{value:.2g}"
    return figure(key).text(value if isinstance(value, (int, float)) else None)


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
