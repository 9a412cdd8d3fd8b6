"""What makes a named data set from its public source: ``cmmulti data prepare NAME``.

A preparer is a function ``(source, target) -> Prepared``, registered as an entry point of ``cmmulti.preparers`` under the
name of its data set. It reads the files of ``source`` as they were published and writes the files that the adapter of the
data set reads below ``target``, each whole or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cmmulti.errors import UserError


class Prepared(NamedTuple):
    """The files that were written, and sentences on what they hold and what was left out."""

    files: list[Path]
    notes: list[str]


def matching(source: Path, *patterns: str) -> list[Path]:
    """The files below ``source`` that match the first pattern that matches any, sorted by path.

    Raises:
        UserError: ``source`` is not a folder, or nothing in it matches.
    """
    if not source.is_dir():
        raise UserError(f"{source}: expected the folder of the published data set")
    for pattern in patterns:
        if found := sorted(p for p in source.glob(pattern) if p.is_file() and not p.name.startswith(".")):
            return found
    raise UserError(f"{source}: expected files {' or '.join(patterns)} in it, found none")
