"""What a comparison consists of, cut into jobs that several processes can share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from cmmulti.comparison.plan import Cell, Entry, Plan
from cmmulti.comparison.schema import TEACHER
from cmmulti.comparison.state import Places
from cmmulti.comparison.work import Failure, Tell, done, measure_teacher, teacher_measured, work


@dataclass(frozen=True)
class Job:
    """A part of a comparison that one process does alone.

    Args:
        needs: the jobs whose models it is made from, by name, each with whether its model is there.
        lock: a file that the process at it has locked; the system unlocks it should that process die.
        do: returns why it failed, None where it did not.
    """

    name: str
    needs: dict[str, Callable[[], bool]]
    lock: Path
    done: Callable[[], bool]
    do: Callable[[], Failure | None]

    def attempt(self) -> tuple[bool, Failure | None]:
        """Do it unless another process is at it or has done it. Returns whether it was free, and why it failed."""
        try:
            with FileLock(self.lock, timeout=0):
                return True, None if self.done() else self.do()
        except Timeout:
            return False, None


def jobs(plan: Plan, places: Places, command: str, tell: Tell) -> list[Job]:
    """Every entry, and the teachers that are only measured; what others are made from comes before them."""
    found = []
    for cell in plan.cells:
        found += [_entry(places, cell, entry, command, tell) for entry in cell.entries]
        if isinstance(cell.teacher, str):
            is_done = partial(teacher_measured, places, cell)
            do = partial(measure_teacher, places, cell, command, tell)
            found.append(Job(f"{cell.name}/{TEACHER}", {}, places.lock(cell.name, TEACHER), is_done, do))
    return found


def _entry(places: Places, cell: Cell, entry: Entry, command: str, tell: Tell) -> Job:
    # A further cell of a joint model has its weights from the first cell, whatever those were made from.
    before = replace(entry, cell=entry.home) if entry.home != cell.name else cell.parent_of(entry)
    needs: dict[str, Callable[[], bool]] = {}
    if isinstance(before, Entry):
        needs[before.name] = partial(places.trained, before)
    is_done, do = partial(done, places, cell, entry), partial(work, places, cell, entry, command, tell)
    return Job(entry.name, needs, places.lock(entry.cell, entry.method), is_done, do)
