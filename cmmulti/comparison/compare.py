"""A whole comparison: train, measure and show every entry, one after the other, from wherever it was left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cmmulti.comparison.check import check
from cmmulti.comparison.page import write_comparison
from cmmulti.comparison.plan import Plan
from cmmulti.comparison.state import ENTRIES, Places, same_as_before
from cmmulti.comparison.summary import write_summary
from cmmulti.comparison.work import done, measure_teacher, trained_parent, work
from cmmulti.errors import UserError
from cmmulti.report.folder import check_free, unwritable


def prepare(plan: Plan, out: Path, tell: Callable[[str], None]) -> None:
    """Find every mistake that can be found before the first training.

    Raises:
        UserError: one line with all of them; ``out`` holds something else or another comparison.
    """
    places = Places(out)
    if not (out / ENTRIES).is_dir():
        check_free(out)
    changed = [same_as_before(places, cell, entry) for cell, entry in plan.entries]
    if wrong := [line for line in changed if line is not None]:
        raise UserError("; ".join(wrong))
    left = [(cell, entry) for cell, entry in plan.entries if not done(places, entry)]
    for _, entry in plan.entries:
        if all(entry is not other for _, other in left):
            tell(f"{entry.name}: done")
    check(left, lambda cell, entry: trained_parent(places, cell, entry), tell)


def compare(plan: Plan, out: Path, command: str, tell: Callable[[str], None]) -> list[str]:
    """Do what is left, each entry on its own: one that fails does not stop the others.

    Everything is kept below ``out`` as it is made, so that the same call goes on after a kill; the page there is renewed
    after each entry.

    Returns:
        The names of the entries that failed, with the reason.
    """
    places = Places(out)
    try:
        (out / ENTRIES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error
    failures = []
    for cell in plan.cells:
        for entry in cell.entries:
            if done(places, entry):
                continue
            failed = work(places, cell, entry, command, tell)
            failures += [] if failed is None else [f"{entry.name} ({failed})"]
            _show(plan, places, command)
        if isinstance(cell.teacher, str):
            failed = measure_teacher(places, cell, command, tell)
            failures += [] if failed is None else [f"{cell.name}/teacher ({failed})"]
    _show(plan, places, command)
    return failures


def _show(plan: Plan, places: Places, command: str) -> None:
    write_summary(plan, places)
    write_comparison(plan, places, command)
