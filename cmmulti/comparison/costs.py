"""What the models of a comparison cost, teachers included."""

from __future__ import annotations

from collections.abc import Sequence

from cmmulti.comparison.plan import Entry, Plan
from cmmulti.comparison.state import Places
from cmmulti.comparison.summary import Standing, cost_before
from cmmulti.comparison.words import listed, numbers
from cmmulti.report.results import SectionRecord, Table

CLOCKS = {"cpu": "CPU time of the training process, all its threads together", "wall": "wall time of the steps on a GPU"}


def costs(plan: Plan, places: Places, found: dict[str, list[Standing]]) -> SectionRecord:
    """A row per model, and how its minutes were counted."""
    return SectionRecord(title="Cost", text=_cost_text(plan, found), tables=[_costs(plan, places, found)])


def _cost_text(plan: Plan, found: dict[str, list[Standing]]) -> str:
    told = []
    for cell in plan.cells:
        own = {entry.method: entry for entry in cell.methods if not entry.joint}
        known = [each for each in found[cell.name] if each.method in own and each.state.parameters]
        states = [each.state for each in known]
        if not states:
            continue
        sizes, batches = sorted({s.parameters or 0 for s in states}), sorted({s.batch_size or 0 for s in states})
        equal = len(sizes) == 1
        weights = f"{sizes[0]:,} parameters each" if equal else f"{sizes[0]:,} to {sizes[-1]:,} parameters"
        order = "the same examples in the same order" if len(batches) == 1 else "the same order, cut into other batches"
        if not _same_data([own[each.method] for each in known]):
            order = "not all the same examples, since their data sections differ"
        told.append(f"{cell.title}: {weights.replace(',', ' ')}, {order} (seed {plan.config.seed}, batches of "
                    f"{listed([str(b) for b in batches])}).")  # fmt: skip
    for cell in plan.cells:
        for entry in (e for e in cell.methods if e.joint and e.home == cell.name):
            size = next((each.state.parameters for each in found[cell.name] if each.method == entry.method), None)
            weights = "" if size is None else f" of {size:,} parameters".replace(",", " ")
            told.append(
                f"{entry.method} is one model{weights} for {listed(entry.joint)}, with the budget of as many models."
            )
    clocks = {each.state.clock for cell in found.values() for each in cell if each.state.seconds is not None}
    how = " or ".join(CLOCKS[clock] for clock in CLOCKS if clock in clocks or not clocks)
    apart = " The two do not compare, and have no sum." if len(clocks) > 1 else ""
    return "\n\n".join(
        [f"Minutes are compute: {how}; those of a teacher come on top for a method that is made from it.{apart}", *told]
    )


def _same_data(entries: Sequence[Entry]) -> bool:
    """Whether all see the same items: their data sections agree but for places, loading and the size of a batch."""
    sections = [e.config().data.model_dump(exclude={"root", "workers", "batch_size"}) for e in entries]
    return all(section == sections[0] for section in sections)


def _costs(plan: Plan, places: Places, found: dict[str, list[Standing]]) -> Table:
    rows: list[list[float | str | None]] = []
    for cell in plan.cells:
        for each in found[cell.name]:
            entry = next((e for e in cell.entries if e.method == each.method), None)
            before, told = (None, "") if entry is None else cost_before(places, cell, entry)
            turns = max(1, len(entry.joint)) if entry is not None else 1
            rows.append([f"{cell.title}: {each.method}", each.status, *_cost_cells(each, before, told, turns)])
    columns = ["", "status", "steps", "examples seen", "minutes", "clock", "made from", "minutes in all"]
    return Table(columns=[*columns, "seconds a sample"], rows=rows)


def _cost_cells(each: Standing, before: float | None, told: str, turns: int) -> list[str]:
    """``before``: seconds that went into what the model is made from, None where nobody knows. ``turns``: how many cells
    take turns in its steps."""
    state = each.state
    if state.seconds is None or state.steps is None:
        return ["", "", "", "", told, "", numbers(each, "seconds") if each.status == "done" else ""]
    whole = "unknown" if before is None else f"{(state.seconds + before) / 60:.1f}"
    seen = f"{state.steps // turns * (state.batch_size or 0)}"
    return [f"{state.steps}", seen, f"{state.seconds / 60:.1f}", state.clock, told, whole, numbers(each, "seconds")]
