"""Comparisons: their configs, and how far one got."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmmulti.comparison.reader import load_plan
from cmmulti.comparison.schema import BudgetConfig
from cmmulti.comparison.state import State
from cmmulti.comparison.summary import COMPARISON
from cmmulti.config.checking import checked
from cmmulti.errors import UserError
from cmmulti.files import read_json
from cmmulti.report.page import PAGE

LARGEST = 100_000_000
"""Bytes of a record: a large comparison has figures of many models."""


def config(path: Path) -> dict[str, Any]:
    """The YAML config of a comparison, checked as ``compare`` checks it."""
    plan = load_plan(path)
    return {
        "kind": "comparison config",
        "path": str(path),
        "title": plan.config.title,
        "budget": plan.config.budget.told,
        "methods": list(plan.config.methods),
        "cells": [cell.name for cell in plan.cells],
        "trainings": [entry.name for _, entry in plan.entries],
    }


def folder(path: Path) -> dict[str, Any]:
    """The folder of a comparison: every model with its status, cell by cell."""
    return file(path / COMPARISON)


def part(folder: Path) -> dict[str, Any]:
    """A folder inside of a comparison's: the comparison, and of a cell's part that cell alone."""
    path = folder.resolve()
    out = next(out for out in path.parents if (out / COMPARISON).is_file())
    inner, *cell = path.relative_to(out).parts
    found = file(out / COMPARISON)
    models = {name: told for name, told in found["models"].items() if not cell or name == cell[0]}
    return {**found, "kind": f"{inner} of a comparison", "path": str(folder), "comparison": str(out), "models": models}


def entry(path: Path) -> dict[str, Any]:
    """What a comparison knows of one of its models."""
    found = checked(State, read_json(path, "an entry of a comparison"), str(path))
    facts = {"kind": "entry of a comparison", "path": str(path), "cell": path.parent.name, "method": path.stem}
    return {**facts, **found.model_dump(exclude={"identity", "evaluation"}), "evaluated": found.evaluation is not None}


def file(path: Path) -> dict[str, Any]:
    """``comparison.json``.

    Raises:
        UserError: it is not what ``compare`` writes.
    """
    try:
        found = read_json(path, "the record of a comparison", LARGEST)
        cells = {
            str(name): {str(method): _standing(model) for method, model in cell["models"].items()}
            for name, cell in found["cells"].items()
        }
        budget = BudgetConfig(**found["budget"]).told
        facts = {"title": found["title"], "budget": budget, "seed": found["seed"], "version": found["version"]}
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as the record of a comparison ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: damaged record of a comparison ({error!r}); expected what `cmmulti compare` writes"
        ) from error
    return {"kind": "comparison", "path": str(path.parent), **facts, "page": str(path.with_name(PAGE)), "models": cells}


def _standing(model: dict[str, Any]) -> str:
    """Its status, and why it failed if it did."""
    failure = model.get("failure")
    return f"{model['status']}" + (f" ({failure})" if failure else "")
