"""What a comparison would do, as plain values: a dry run's answer to a program, in the form of ``comparison.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cmmulti.comparison.plan import Entry, Plan
from cmmulti.comparison.state import Places
from cmmulti.comparison.summary import summary
from cmmulti.comparison.work import done
from cmmulti.training.dry_run import Trial


def planned_text(plan: Plan, places: Places, trials: Mapping[str, Trial]) -> str:
    """The JSON of :func:`planned`."""
    return json.dumps(planned(plan, places, trials), indent=2, default=str)


def planned(plan: Plan, places: Places, trials: Mapping[str, Trial]) -> dict[str, Any]:
    """What ``comparison.json`` would hold now, and of each model what is left to do: ``planned``, null where it is done.

    Args:
        trials: of the trainings that are left, by the name of the entry where they are done.
    """
    found = summary(plan, places)
    total = 0.0
    for cell, entry in plan.entries:
        trial = trials.get(f"{entry.home}/{entry.method}")
        told = None if done(places, cell, entry) else _planned(places, entry, trial)
        found["cells"][cell.name]["models"][entry.method]["planned"] = told
        if told is not None and entry.home == cell.name:
            total += told["estimated_minutes"]
    return {"dry_run": True, **found, "estimated_minutes": total}


def _planned(places: Places, entry: Entry, trial: Trial | None) -> dict[str, Any]:
    """``steps``: null where minutes are yet to be turned into them. ``estimated_minutes``: of its training, shared with
    the other cells of a joint model; those of a budget of steps as this CPU would take them. ``trial`` is None where a
    joint model is trained and its first cell measured."""
    state, trained = places.state(entry.cell, entry.method), places.trained(entry)
    minutes = None if entry.budget is None else entry.budget.minutes
    estimated = minutes
    if minutes is None and trial is not None:
        estimated = trial.steps * trial.seconds_a_step / 60
    return {
        "trained": trained,
        "trained_in": entry.home,
        "budget": None if entry.budget is None else entry.budget.model_dump(mode="json"),
        "steps": state.steps if minutes is not None or trial is None else trial.steps,
        "estimated_minutes": 0.0 if trained or estimated is None else estimated,
        **{key: getattr(trial, key, None) for key in ("parameters", "examples", "first_loss", "seconds_a_step")},
    }
