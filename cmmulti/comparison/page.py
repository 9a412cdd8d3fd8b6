"""The page of a comparison: methods x cells, costs, figures, and samples side by side at the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cmmulti.comparison.plan import Cell, Entry, Plan
from cmmulti.comparison.state import FIGURES, Places
from cmmulti.comparison.summary import Standing, cost_before, standings
from cmmulti.evaluation.tables import FLOOR
from cmmulti.report.figures import figure
from cmmulti.report.page import write_page
from cmmulti.report.results import MediaRecord, Results, RowRecord, SectionRecord, Table, write_results

HEADLINES = ("accuracy", "frechet_matched", "recall", "copied")
"""Figures of free samples in the first table; a task shows the first of its own."""
RESULT = ("result", "error of result")
"""How the captions of a model's own answer to a task begin."""
NAMES = {"frechet_matched": "Fréchet distance", "copied": "copies"}
CLOCKS = {"cpu": "CPU time of the training process, all its threads together", "wall": "wall time of the steps on a GPU"}
CHANCE = "A few per cent of copies come by chance where held-out items are few."
ARROWS = {"higher": " ↑", "lower": " ↓", "one": " → 1", "zero": " → 0", "none": ""}


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
    sections = [
        SectionRecord(
            title="Quality", text=_quality_text(plan), tables=[_quality(cell, found[cell.name]) for cell in plan.cells]
        ),
        SectionRecord(title="Cost", text=_cost_text(plan, found), tables=[_costs(plan, places, found)]),
    ]
    for cell in plan.cells:
        sections += _cell_sections(cell, found[cell.name])
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
    groups = "; ".join(f"{_listed(methods)} ({hash_})" for hash_, methods in by_hash.items())
    return f"figures on different features do not compare: {groups}. What of {FIGURES}/ is removed is measured anew."


def _quality_text(plan: Plan) -> str:
    splits = sorted({cell.evaluation.split for cell in plan.cells})
    asked: dict[tuple[int, ...], list[str]] = {}
    for cell in plan.cells:
        asked.setdefault(cell.evaluation.steps, []).append(cell.title)
    steps = "; ".join(
        f"{_listed([str(s) for s in numbers])} steps" + (f" ({_listed(titles)})" if len(asked) > 1 else "")
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
    rows: list[list[float | str | None]] = [[each.method, *(_numbers(each, key) for key in keys)] for each in found]
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


def _numbers(each: Standing, key: str) -> str:
    if each.status != "done":
        return each.status
    return " · ".join(_number(row, key) for row in each.rows)


def _number(row: dict[str, object], key: str) -> str:
    metrics = row.get("metrics")
    value = metrics[key] if isinstance(metrics, dict) and key in metrics else row.get(key)
    value = value[0] if isinstance(value, list) else value
    if key == "seconds" and isinstance(value, float):
        return f"{value:.2g}"
    return figure(key).text(value if isinstance(value, (int, float)) else None)


def _floor(found: Sequence[Standing], key: str) -> str:
    results = next((each.results for each in found if each.results is not None), None)
    rows = [] if results is None else [r for r in results.details["rows"] if r["name"] == "held-out items"]
    return _number(rows[0], key) if rows else ""


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
                    f"{_listed([str(b) for b in batches])}).")  # fmt: skip
    for cell in plan.cells:
        for entry in (e for e in cell.methods if e.joint and e.home == cell.name):
            size = next((each.state.parameters for each in found[cell.name] if each.method == entry.method), None)
            weights = "" if size is None else f" of {size:,} parameters".replace(",", " ")
            told.append(
                f"{entry.method} is one model{weights} for {_listed(entry.joint)}, with the budget of as many models."
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
        return ["", "", "", "", told, "", _numbers(each, "seconds") if each.status == "done" else ""]
    whole = "unknown" if before is None else f"{(state.seconds + before) / 60:.1f}"
    seen = f"{state.steps // turns * (state.batch_size or 0)}"
    return [f"{state.steps}", seen, f"{state.seconds / 60:.1f}", state.clock, told, whole, _numbers(each, "seconds")]


def _cell_sections(cell: Cell, found: Sequence[Standing]) -> list[SectionRecord]:
    """All figures of a cell with their intervals, and what its models make of the same seeds."""
    measured = [each for each in found if each.results is not None]
    if not measured:
        return []
    notes = [note for each in measured if each.results is not None for note in each.results.notes[:1]]
    pages = ", ".join(f"{FIGURES}/{cell.name}/{each.method}/index.html" for each in measured)
    figures = SectionRecord(
        title=cell.title,
        text=f"With 95 % intervals. Each model's own page: {pages}.\n\n" + " ".join(notes[:1]),
        tables=[_figures(measured)],
    )
    task = cell.evaluation.task
    if task is not None:
        media = [*_givens(cell, measured[0]), *(record for each in measured for record in _answers(cell, each))]
        return [figures, SectionRecord(title=f"{cell.title}: {task} of the same case", media=media)]
    rows = [row for each in measured for row in _samples(cell, each)]
    title = f"{cell.title}: samples at the same seeds"
    return [figures, SectionRecord(title=title, columns=_seeds(measured[0]), rows=rows)]


def _figures(measured: Sequence[Standing]) -> Table:
    """The tables of all evaluations as one; rows of the data, which they share, come once and last."""
    rows: list[list[float | str | None]] = []
    last: list[list[float | str | None]] = []
    columns: list[str] = []
    for each in measured:
        assert each.results is not None
        table = each.results.sections[0].tables[0]
        columns = columns or [*table.columns, "seconds a sample"]
        seconds = [_number(row, "seconds") for row in each.rows]
        own = [row for row in table.rows if str(row[0]).startswith("model")]
        rows += [[str(row[0]).replace("model", each.method, 1), *row[1:], s] for row, s in zip(own, seconds, strict=True)]
        last = last or [[*row, ""] for row in table.rows if row not in own]
    return Table(columns=columns, rows=[*rows, *last])


def _seeds(each: Standing) -> list[str]:
    outputs = [] if each.results is None else each.results.outputs
    return [f"seed {o.seed}" + ("" if o.label is None else f", class {o.label}") for o in outputs]


def _samples(cell: Cell, each: Standing) -> list[RowRecord]:
    """One row per number of steps."""
    assert each.results is not None
    made = [s for s in each.results.sections if s.title.startswith("Samples in ")]
    return [
        _row(cell, each, f"{each.method}, {row['nfe']} NFE", section.media)
        for row, section in zip(each.rows, made, strict=True)
    ]


def _answers(cell: Cell, each: Standing) -> list[MediaRecord]:
    """A model's answer to the case that is shown, called by its name."""
    assert each.results is not None
    name = f"{each.method}, {max(row['nfe'] for row in each.rows)} NFE"
    own = [m for m in each.results.sections[1].media if m.caption.startswith(RESULT)]
    return [_moved(m, cell, each, m.caption.replace("result", name, 1)) for m in own]


def _givens(cell: Cell, each: Standing) -> list[MediaRecord]:
    """What every model was given, the simpler answers and the truth: of the first model's page."""
    assert each.results is not None
    media = [m for m in each.results.sections[1].media if not m.caption.startswith(RESULT)]
    return [_moved(m, cell, each, m.caption) for m in media]


def _row(cell: Cell, each: Standing, title: str, media: Sequence[MediaRecord]) -> RowRecord:
    """Media in a row; what all captions end with, such as their scale, is said once."""
    tails = {m.caption.partition(" · ")[2].partition(";")[0] for m in media}
    text = tails.pop() if len(tails) == 1 else ""
    return RowRecord(title=title, text=text, media=[_moved(m, cell, each, "") for m in media])


def _moved(record: MediaRecord, cell: Cell, each: Standing, caption: str) -> MediaRecord:
    """Media of an evaluation's folder, seen from the comparison's."""
    picture = None if record.picture is None else _moved(record.picture, cell, each, "")
    file = f"{FIGURES}/{cell.name}/{each.method}/{record.file}"
    return record.model_copy(update={"file": file, "picture": picture, "caption": caption})


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
