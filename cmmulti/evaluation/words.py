"""Words around an evaluation: what was typed, what a card says, and the command as others would type it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cmmulti.errors import UserError


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
    """``KEY=VALUE`` lines as a mapping; values are read as YAML, hyphens in keys as underscores."""
    found: dict[str, Any] = {}
    for line in lines:
        name, equals, text = line.partition("=")
        if not equals or not name:
            raise UserError(f"{flag} {line!r}: expected KEY=VALUE")
        try:
            found[name.replace("-", "_")] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{flag} {line!r}: the value is not YAML ({error})") from error
    return found


def named_in(card: str) -> str | None:
    """The first of ``datasets`` in the YAML head of a model card."""
    head = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    if head is None:
        return None
    try:
        fields = yaml.safe_load(head.group(1))
    except yaml.YAMLError:
        return None
    listed = fields.get("datasets") if isinstance(fields, dict) else None
    return str(listed[0]) if isinstance(listed, list) and listed else None
