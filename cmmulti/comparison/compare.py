"""A whole comparison: train, measure and show every entry from wherever it was left, alone or with other processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cmmulti.comparison.check import check
from cmmulti.comparison.jobs import jobs
from cmmulti.comparison.page import write_comparison
from cmmulti.comparison.plan import Plan
from cmmulti.comparison.state import ENTRIES, Places, begun_otherwise, changed, traces
from cmmulti.comparison.summary import write_summary
from cmmulti.comparison.work import Failure, done, trained_parent
from cmmulti.errors import UserError
from cmmulti.report.folder import IGNORED, check_free, unwritable
from cmmulti.training.dry_run import Trial

PAUSE = 5.0
"""Seconds between looks at whether another process has ended what is waited for."""


def prepare(plan: Plan, out: Path, tell: Callable[[str], None]) -> dict[str, Trial]:
    """Find every mistake that can be found before the first training.

    Returns:
        What each training that is left would be, by the entry's name; of a joint model in its first cell.

    Raises:
        UserError: one line with all of them; ``out`` holds something else or another comparison.
    """
    places = Places(out)
    if not (out / ENTRIES).is_dir():
        check_free(out, overwrite=True)
        used = next((p.name for p in out.iterdir() if p.name not in IGNORED), None) if out.is_dir() else None
        if used is not None:
            raise UserError(f"{out}: holds {used} and no comparison; expected a new folder, or that of this comparison")
    others = [(entry, what) for cell, entry in plan.entries if (what := changed(places, cell, entry))]
    if others:
        begun = "; ".join(f"{entry.name} {begun_otherwise(what)}" for entry, what in others)
        removed = " ".join(str(path) for entry, _ in others for path in traces(places, entry))
        raise UserError(f"{begun}; expected the same config, another --out, or these removed: {removed}")
    left = [(cell, entry) for cell, entry in plan.entries if not done(places, cell, entry)]
    for _, entry in plan.entries:
        if all(entry is not other for _, other in left):
            tell(f"{entry.name}: done")
    return check(left, lambda cell, entry: trained_parent(places, cell, entry), tell)


def compare(plan: Plan, out: Path, command: str, tell: Callable[[str], None]) -> dict[str, Failure]:
    """Do what is left, each entry on its own: one that fails does not stop the others.

    Everything is kept below ``out`` as it is made, so that the same call goes on after a kill; the page there is renewed
    after each entry. Several processes may work on one folder: each takes the first entry that no other has taken, and
    all of them return once nothing is left. An entry that failed in one is tried once more by the others; none does one
    twice, so that processes told to measure otherwise do not renew each other's figures for ever.

    Returns:
        The entries that failed here, by name.
    """
    places = Places(out)
    asked = jobs(plan, places, command, tell)
    try:
        for job in asked:
            job.lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error
    failed: dict[str, Failure] = {}
    finished: set[str] = set()
    waited: list[str] = []
    while left := [job for job in asked if job.name not in finished and not job.done()]:
        ready = [job for job in left if all(name in failed or trained() for name, trained in job.needs.items())]
        for job in ready:
            free, failure = job.attempt()
            failed |= {} if failure is None else {job.name: failure}
            if free:
                finished.add(job.name)
                _show(plan, places, command, tell)
                break
        else:
            if waited != (waited := [job.name for job in ready]):
                tell(f"waiting for {', '.join(waited)}: another process works on it")
            time.sleep(PAUSE)  # then look again: a model may be there before it is measured, for others to start from
    _show(plan, places, command, tell)
    return failed


def _show(plan: Plan, places: Places, command: str, tell: Callable[[str], None]) -> None:
    """Renew the page; where that fails, as for a picture that was removed, the work goes on."""
    try:
        write_summary(plan, places)
        write_comparison(plan, places, command)
    except UserError as error:
        tell(f"the page was not renewed: {error}")
