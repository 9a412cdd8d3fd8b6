"""What a comparison has found so far, as plain values: ``comparison.json``, and what the page is made of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmmulti.comparison.plan import Cell, Entry, Plan
from cmmulti.comparison.schema import TEACHER
from cmmulti.comparison.state import Places, State, begun_otherwise, changed
from cmmulti.pipeline.folder import CARD, model_folder
from cmmulti.report.results import Results, package_version, read_results, write_text

COMPARISON = "comparison.json"
CARD_TIME = re.compile(r"^\| time \| (.+?) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Standing:
    """One model of a cell: what is known of it, and its results where they are measured."""

    method: str
    state: State
    results: Results | None

    @property
    def status(self) -> str:
        if self.state.failure is not None:
            return "failed"
        return "done" if self.results is not None else "not yet"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Figures per number of steps, with ``seconds`` per sample; those of the model alone."""
        rows = [] if self.results is None else list(self.results.details["rows"])
        own = [row for row in rows if str(row["name"]) == "model" or str(row["name"]).startswith("model,")]
        samples = self.results is not None and self.results.task == "evaluate"
        return [{**row, "seconds": row["seconds"] / (row["n"] if samples else 1)} for row in own]


def standings(places: Places, cell: Cell) -> list[Standing]:
    """The methods of a cell in order, and its teacher last where there is one."""
    names = [entry.method for entry in cell.methods] + ([TEACHER] if cell.teacher is not None else [])
    others = {entry.method: what for entry in cell.entries if (what := changed(places, cell, entry))}
    return [
        Standing(name, State(failure=begun_otherwise(others[name])), None)
        if name in others
        else _standing(places, cell, name)
        for name in names
    ]


def _standing(places: Places, cell: Cell, method: str) -> Standing:
    state = places.state(cell.name, method)
    current = state.failure is None and places.measured(cell.name, method, cell.evaluation)
    return Standing(method, state, read_results(places.figures(cell.name, method)) if current else None)


def floor_of(found: list[Standing]) -> list[dict[str, Any]]:
    """Rows that belong to the data: held-out items, simpler answers."""
    results = next((each.results for each in found if each.results is not None), None)
    if results is None:
        return []
    return [row for row in results.details["rows"] if not str(row["name"]).startswith("model")]


def cost_before(places: Places, cell: Cell, entry: Entry) -> tuple[float | None, str]:
    """Seconds of compute that went into what an entry is made from, and in words.

    The seconds are None where they are not known here: of a model that was there before its card speaks, and those of
    another clock are no part of a sum.
    """
    parent = cell.parent_of(entry)
    if parent is None:
        return 0.0, "none"
    if isinstance(parent, str):
        card = model_folder(parent) / CARD
        found = CARD_TIME.search(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
        return None, f"{Path(parent).name}, {found.group(1) if found else 'unknown'}"
    source, state = places.state(cell.name, parent.method), places.state(cell.name, entry.method)
    own, before = source.seconds, cost_before(places, cell, parent)[0]
    if own is None or before is None:
        return None, f"{parent.method}, unknown"
    if state.seconds is not None and state.clock != source.clock:
        return None, f"{parent.method}, {(own + before) / 60:.1f} minutes ({source.clock})"
    return own + before, f"{parent.method}, {(own + before) / 60:.1f} minutes"


def summary(plan: Plan, places: Places) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "title": plan.config.title,
        "version": package_version(),
        "budget": plan.config.budget.model_dump(mode="json"),
        "seed": plan.config.seed,
        "cells": {cell.name: _cell(places, cell) for cell in plan.cells},
    }


def _cell(places: Places, cell: Cell) -> dict[str, Any]:
    found = standings(places, cell)
    entries = {entry.method: entry for entry in cell.entries}
    return {
        "title": cell.title,
        "config": cell.config,
        "evaluation": cell.evaluation.model_dump(mode="json"),
        "teacher": None if cell.teacher is None else TEACHER if isinstance(cell.teacher, Entry) else cell.teacher,
        "models": {
            each.method: {
                "status": each.status,
                "failure": each.state.failure,
                **each.state.model_dump(include={"steps", "seconds", "clock", "parameters", "examples", "batch_size"}),
                "made_from": entries[each.method].parent if each.method in entries else None,
                "seconds_before": cost_before(places, cell, entries[each.method])[0] if each.method in entries else None,
                "rows": each.rows,
            }
            for each in found
        },
        "beside": floor_of(found),
    }


def write_summary(plan: Plan, places: Places) -> Path:
    """``comparison.json``, whole or not at all."""
    path = places.out / COMPARISON
    write_text(path, json.dumps(summary(plan, places), indent=2, default=str) + "\n")
    return path
