"""Held-out figures in a model card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cmmulti.errors import UserError
from cmmulti.files import writing
from cmmulti.pipeline.folder import CARD, model_folder
from cmmulti.report.results import Table

UNMEASURED = re.compile(r"Held-out figures: not measured yet[^\n]*\n\n?")


def write_figures(model: str, title: str, command: str, table: Table, notes: Sequence[str]) -> Path:
    """Put ``table`` into the card of ``model`` (a folder or a shipped name), in place of an earlier one of that title.

    Raises:
        UserError: there is no such model, or its card cannot be read or written.
    """
    path = model_folder(model) / CARD
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected the card of a model, in UTF-8") from error
    with writing(path) as part:
        card = with_figures(text, title, command, table, notes)
        part.write_text(card, encoding="utf-8", errors="backslashreplace")
    return path


def with_figures(card: str, title: str, command: str, table: Table, notes: Sequence[str]) -> str:
    """The card with a section ``## Held-out figures: TITLE``; other sections stay as they are."""
    heading = f"## Held-out figures: {title}"
    lines = [heading, "", f"`{command}`", "", *markdown(table), "", *(f"- {note}" for note in notes)]
    section = "\n".join(lines).rstrip() + "\n"
    card = UNMEASURED.sub("", card)
    former = re.compile(rf"^{re.escape(heading)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if former.search(card):
        return former.sub(lambda _: section + "\n", card, count=1).rstrip() + "\n"
    return f"{card.rstrip()}\n\n{section}"


def markdown(table: Table) -> list[str]:
    """A table as lines of Markdown."""
    rows = [
        table.columns,
        ["---"] * len(table.columns),
        *[["" if v is None else str(v) for v in row] for row in table.rows],
    ]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
