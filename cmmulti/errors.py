"""The errors that users see, and the exit codes of the command line.

Anything a user can cause is a :class:`UserError`: one line that names the file or key, the value, and what was
expected. Everything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

EXIT_OK = 0
EXIT_USER = 2
EXIT_BUG = 70

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")

REFUSALS = (
    TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError, StopIteration, RuntimeError
)  # fmt: skip
"""What networks, anybody's, raise where they are made of settings that they cannot take."""


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


def users_fault(error: Exception) -> str | None:
    """One line for failures of the machine that is not ours to mend: files, disk, memory. None for a bug."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        name = error.filename2 or error.filename
        if name is not None and Path(os.fsdecode(name)).is_relative_to(Path(__file__).parent):
            return None
        return f"{os.fsdecode(name)}: {error.strerror}" if name is not None else error.strerror
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory; expected a smaller input or fewer samples"
    if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY):
        return "out of memory; expected a smaller input, fewer samples or a device with more memory"
    return None
