"""The first table of a comparison's page: how good each method is on each cell."""

from __future__ import annotations

from collections.abc import Sequence

from cmmulti.comparison.plan import Cell, Plan
from cmmulti.comparison.summary import Standing
from cmmulti.comparison.words import listed, number, numbers
from cmmulti.evaluation.tables import FLOOR
from cmmulti.report.figures import figure
from cmmulti.report.results import SectionRecord, Table

HEADLINES = ("accuracy", "frechet_matched", "recall", "copied")
"""Figures of free samples in the first table; a task shows the first of its own."""
NAMES = {"frechet_matched": "Fréchet distance", "copied": "copies"}
CHANCE = "A few per cent of copies come by chance where held-out items are few."
ARROWS = {"higher": " ↑", "lower": " ↓", "one": " → 1", "zero": " → 0", "none": ""}


def quality(plan: Plan, found: dict[str, list[Standing]]) -> SectionRecord:
    """A table for each cell, and what its figures are of."""
    tables = [_quality(cell, found[cell.name]) for cell in plan.cells]
    return SectionRecord(title="Quality", text=_quality_text(plan), tables=tables)


def _quality_text(plan: Plan) -> str:
    splits = sorted({cell.evaluation.split for cell in plan.cells})
    asked: dict[tuple[int, ...], list[str]] = {}
    for cell in plan.cells:
        asked.setdefault(cell.evaluation.steps, []).append(cell.title)
    steps = "; ".join(
        f"{listed([str(s) for s in numbers])} steps" + (f" ({listed(titles)})" if len(asked) > 1 else "")
        for numbers, titles in asked.items()
    )
    floor = f"{FLOOR} {CHANCE}" if any(cell.evaluation.task is None for cell in plan.cells) else ""
    return (
        f"Every method had the same budget, {plan.config.budget.told}. Measured on the {' and '.join(splits)} split. "
        f"Several numbers in a place are for {steps}, which are as many network evaluations unless a table below says "
        "more; a denoiser's last number, the only one of a teacher's samples, is for 35 of them. "
        f"↑: higher is better, ↓: lower. {floor}"
    ).rstrip()


def _quality(cell: Cell, found: Sequence[Standing]) -> Table:
    """A row per method, a column per figure."""
    keys = list(dict.fromkeys(key for each in found for key in _headlines(each))) or [""]
    rows: list[list[float | str | None]] = [[each.method, *(numbers(each, key) for key in keys)] for each in found]
    if any(each.results is not None and each.results.task == "evaluate" for each in found):
        rows.append(["held-out items", *(_floor(found, key) for key in keys)])
    return Table(caption=cell.title, columns=["", *(_head(key) if key else "status" for key in keys)], rows=rows)


def _headlines(each: Standing) -> list[str]:
    rows = each.rows
    if not rows:
        return []
    if "metrics" in rows[0]:
        return list(rows[0]["metrics"])[:2]
    return [key for key in HEADLINES if rows[0].get(key) is not None]


def _head(key: str) -> str:
    shown = figure(key)
    unit = f", {shown.unit}" if shown.unit else ""
    return f"{NAMES.get(key, shown.name)}{unit}{ARROWS[shown.better]}"


def _floor(found: Sequence[Standing], key: str) -> str:
    results = next((each.results for each in found if each.results is not None), None)
    rows = [] if results is None else [r for r in results.details["rows"] if r["name"] == "held-out items"]
    return number(rows[0], key) if rows else ""
