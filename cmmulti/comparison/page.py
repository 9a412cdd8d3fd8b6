"""The page of a comparison: methods x cells, costs, figures, and samples side by side at the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cmmulti.comparison.cells import cell_sections
from cmmulti.comparison.costs import costs
from cmmulti.comparison.plan import Plan
from cmmulti.comparison.quality import quality
from cmmulti.comparison.state import FIGURES, Places
from cmmulti.comparison.summary import Standing, standings
from cmmulti.comparison.words import listed
from cmmulti.report.page import write_page
from cmmulti.report.results import Results, write_results


def write_comparison(plan: Plan, places: Places, command: str) -> Path:
    """``results.json`` and ``index.html`` of what there is so far; the page's path."""
    found = {cell.name: standings(places, cell) for cell in plan.cells}
    failures = [
        f"{name}/{each.method} failed: {each.state.failure}"
        for name, cell in found.items()
        for each in cell
        if each.state.failure is not None
    ]
    pending = sum(each.status == "not yet" for cell in found.values() for each in cell)
    notes = [*failures, *([f"{pending} of the models are not there yet."] if pending else [])]
    notes += [f"{cell.title}: {told}" for cell in plan.cells if (told := _hashes_text(found[cell.name]))]
    sections = [quality(plan, found), costs(plan, places, found)]
    for cell in plan.cells:
        sections += cell_sections(cell, found[cell.name])
    results = Results(
        command=command,
        model=", ".join(plan.config.methods),
        task="compare",
        notes=notes,
        details={"title": plan.config.title, "budget": plan.config.budget.told, "seed": plan.config.seed},
        sections=sections,
    )
    write_results(results, places.out)
    return write_page(places.out, results)


def _hashes_text(found: Sequence[Standing]) -> str:
    """What is wrong where figures of a cell were taken on different features; nothing where they compare."""
    by_hash: dict[str, list[str]] = {}
    for each in found:
        if each.results is not None:
            by_hash.setdefault(str(each.results.details.get("feature_hash")), []).append(each.method)
    if len(by_hash) < 2:
        return ""
    groups = "; ".join(f"{listed(methods)} ({hash_})" for hash_, methods in by_hash.items())
    return f"figures on different features do not compare: {groups}. What of {FIGURES}/ is removed is measured anew."
