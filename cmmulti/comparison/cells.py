"""One cell on a comparison's page: all figures of its models, and what they make of the same seeds."""

from __future__ import annotations

from collections.abc import Sequence

from cmmulti.comparison.plan import Cell
from cmmulti.comparison.state import FIGURES
from cmmulti.comparison.summary import Standing
from cmmulti.comparison.words import number
from cmmulti.report.results import MediaRecord, RowRecord, SectionRecord, Table

RESULT = ("result", "error of result")
"""How the captions of a model's own answer to a task begin."""


def cell_sections(cell: Cell, found: Sequence[Standing]) -> list[SectionRecord]:
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
        seconds = [number(row, "seconds") for row in each.rows]
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
