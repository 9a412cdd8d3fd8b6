"""Comparisons: their configs, and how far one got."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cmmulti.comparison.reader import load_plan
from cmmulti.comparison.schema import BudgetConfig
from cmmulti.comparison.summary import COMPARISON
from cmmulti.errors import UserError
from cmmulti.report.page import PAGE


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


def file(path: Path) -> dict[str, Any]:
    """``comparison.json``.

    Raises:
        UserError: it is not what ``compare`` writes.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        cells = {
            str(name): {str(method): _standing(model) for method, model in cell["models"].items()}
            for name, cell in found["cells"].items()
        }
        budget = BudgetConfig(**found["budget"]).told
        facts = {"title": found["title"], "budget": budget, "seed": found["seed"], "version": found["version"]}
    except (OSError, ValueError, RecursionError) as error:
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
