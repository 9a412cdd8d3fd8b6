"""The errors that users see, and the exit codes of the command line.

Anything a user can cause is a :class:`UserError`: one line that names the file or key, the value, and what was
expected. Everything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_USER = 2
EXIT_BUG = 70


class UserError(Exception):
    """A mistake in the input, told in one line: which file or key, what it held, what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in ``known``; it names the nearest one and all that exist."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint} (known: {', '.join(choices) or 'none'})")
