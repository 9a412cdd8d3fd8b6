"""Words around an evaluation: what was typed, what a card says, and the command as others would type it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmmulti.config.text import parse_yaml
from cmmulti.errors import UserError
from cmmulti.pipeline.card import head_of


def without_folders(command: str, places: Mapping[str, str]) -> str:
    """The command with one machine's folders replaced by ``places``, and a teacher's by its name."""
    words = shlex.split(command)
    public = [places.get(word, word) for word in words]
    for i, word in enumerate(words[:-1]):
        if word == "--teacher":
            public[i + 1] = Path(words[i + 1]).name
    return shlex.join(public)


def options_typed(options: Mapping[str, Any]) -> list[str]:
    """Options of a task for a heading: those that have a value."""
    return [f"{name} {_told(value)}" for name, value in options.items() if not isinstance(value, bool)]


def _told(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def pairs(lines: Sequence[str], flag: str) -> dict[str, Any]:
    """``KEY=VALUE`` lines as a mapping; values are read as those of ``--set`` are, hyphens in keys as underscores.

    Raises:
        UserError: a line is of another form, or its value is not YAML; ``flag`` is named.
    """
    found: dict[str, Any] = {}
    for line in lines:
        name, equals, text = line.partition("=")
        if not equals or not name:
            raise UserError(f"{flag} {line!r}: expected KEY=VALUE")
        found[name.replace("-", "_")] = parse_yaml(text, f"{flag} {line}")
    return found


def named_in(card: str) -> str | None:
    """The first of ``datasets`` in the YAML head of a model card."""
    listed = head_of(card).get("datasets")
    return str(listed[0]) if isinstance(listed, list) and listed else None
