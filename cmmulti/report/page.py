"""``index.html``: one self-contained page made of a result folder alone. Nothing in it is fetched from anywhere."""

from __future__ import annotations

import base64
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cmmulti.errors import UserError
from cmmulti.files import regular_file
from cmmulti.report.figures import figure
from cmmulti.report.results import RESULTS, MediaRecord, Part, Results, Table, read_results, write_text

PAGE = "index.html"
GENERATOR = '<meta name="generator" content="cmmulti'
"""By which a page of ours is known."""
LARGEST_MEDIUM = 64_000_000
PATH = re.compile(r"(?<![\w./&;-])(?:[A-Za-z0-9][\w.-]*/)+" + re.escape(PAGE))
"""A page further down, named in a section's text."""
EMBEDDED = 36_000_000
"""Bytes of pictures and sounds that one page holds, which are a third more as text; beyond them a part is a link to its own
page, and a picture or sound of the page's own a link to its file."""


@dataclass
class _Shown:
    """A result folder as the template sees it."""

    results: Results
    folder: Path
    title: str
    text: str
    link: str
    table: dict[str, Any] | None
    embedded: bool = True
    left_out: frozenset[str] = frozenset()
    """Files of its sections that the page names and does not hold."""

    @property
    def records(self) -> list[MediaRecord]:
        """All that its sections show, the pictures of players included."""
        found = [record for section in self.results.sections for record in section.all_media]
        return [part for record in found for part in (record.picture, record) if part is not None]


def write_page(folder: Path, results: Results | None = None) -> Path:
    """Write ``index.html`` into ``folder`` from what lies there.

    Args:
        folder: a result folder; or a folder of result folders, which then share one page.
        results: of the folder, where they are at hand; read from it otherwise.

    Raises:
        UserError: there are no results, or a file that they name is missing.
    """
    found = results if results is not None else gather(folder)
    own = _shown(folder, found)
    own.left_out, budget = _fitted(own, EMBEDDED)
    parts = []
    for inner in found.parts:
        part = _shown(folder / inner.folder, read_results(folder / inner.folder), inner)
        size = sum(_size(part.folder, record) for record in part.records)
        part.embedded = size <= budget
        budget -= size if part.embedded else 0
        parts.append(part)
    titles = Counter(part.title for part in parts)
    for inner, part in zip(found.parts, parts, strict=True):
        if titles[part.title] > 1:
            part.title = f"{part.title} ({inner.folder})"
    html = _environment().get_template("page.html").render(page=own, parts=parts)
    path = folder / PAGE
    try:
        write_text(path, html)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def check_replaceable(page: Path) -> None:
    """Refuse to write over a page that is none of ours.

    Raises:
        UserError: it does not say that it was made here.
    """
    if page.exists():
        regular_file(page, "a page made by cmmulti")
    try:
        if page.exists() and GENERATOR not in page.read_text(encoding="utf-8", errors="replace")[:4096]:
            raise UserError(f"{page}: was not made by cmmulti and would be lost; move it away first")
    except OSError as error:
        raise UserError(f"{page}: cannot be read ({error.strerror or error})") from error


def gather(folder: Path) -> Results:
    """The results of ``folder``, or of all result folders directly inside it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a result folder, or a folder of result folders")
    if (folder / RESULTS).is_file():
        return read_results(folder)
    parts = [_part(p) for p in sorted(folder.iterdir()) if (p / RESULTS).is_file()]
    if not parts:
        raise UserError(f"{folder}: no {RESULTS} in it or in the folders inside it; expected a result folder")
    models = {read_results(folder / part.folder).model for part in parts}
    return Results(command="", model=", ".join(sorted(models)), task="report", parts=parts)


def _part(folder: Path) -> Part:
    try:
        return Part(folder=folder.name)
    except ValueError as error:  # a name that would lead elsewhere on another system
        raise UserError(f"{folder}: results cannot name a folder that is called so; expected it renamed") from error


def title_of(results: Results) -> str:
    """The heading of a page: ``Inpaint · spoken-digits``."""
    if results.task == "report":
        return f"{len(results.parts)} results"
    if "title" in results.details:
        return str(results.details["title"])
    task = results.task.upper() if len(results.task) <= 3 else results.task[:1].upper() + results.task[1:]
    return " · ".join(word for word in (task, Path(results.model).name) if word)


def _shown(folder: Path, results: Results, part: Part | None = None) -> _Shown:
    table = comparison(results.metrics, results.baselines) if results.metrics or results.baselines else None
    if part is None:
        return _Shown(results, folder, title_of(results), "", "", table)
    link = _address(f"{part.folder}/{PAGE}")
    return _Shown(results, folder, part.title or title_of(results), part.text, link, table)


def comparison(metrics: Mapping[str, float | None], baselines: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """A result's figures beside those of its baselines: a row per figure (a phone is narrow), the best in each marked."""
    columns: dict[str, Mapping[str, float | None]] = {"this result": metrics} if metrics else {}
    columns |= {name.replace("_", " "): values for name, values in baselines.items()}
    rows = []
    for key in dict.fromkeys(key for values in columns.values() for key in values):
        shown, across = figure(key), {name: values.get(key) for name, values in columns.items()}
        best = shown.best(across)
        rows.append((shown, [(shown.text(value), name in best) for name, value in across.items()]))
    return {"columns": list(columns), "rows": rows}


def figures_table(table: Table) -> dict[str, Any]:
    """A section's own table; a column named after a known figure gets its words and unit."""
    heads = [figure(column) for column in table.columns]
    rows = [
        [cell if isinstance(cell, str) else head.text(cell) for head, cell in zip(heads, row, strict=False)]
        for row in table.rows
    ]
    return {"caption": table.caption, "heads": heads, "rows": rows}


def data_uri(folder: Path, record: MediaRecord) -> str:
    """A picture or sound of the folder, inlined."""
    path = _checked(folder, record)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {RESULTS} names it") from error
    return f"data:{record.mime};base64,{base64.b64encode(content).decode()}"


def _fitted(shown: _Shown, room: int) -> tuple[frozenset[str], int]:
    """The files that do not fit into ``room`` bytes, and what is left of them. Pictures come first: they are small, and say
    what is in the sounds."""
    left_out = set()
    for record in sorted(shown.records, key=lambda record: record.kind == "player"):
        size = _size(shown.folder, record)
        if size > room:
            left_out.add(record.file)
        else:
            room -= size
    return frozenset(left_out), room


def _size(folder: Path, record: MediaRecord) -> int:
    return _checked(folder, record).stat().st_size


def _checked(folder: Path, record: MediaRecord) -> Path:
    """The file of a record, refused where it leads out of the folder by a link, is missing, or is absurdly large."""
    path = folder / record.file
    if not path.is_file():
        raise UserError(f"{path}: no such file, though {folder / RESULTS} names it")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path}: leads out of the result folder; expected a file inside it")
    if path.stat().st_size > LARGEST_MEDIUM:
        raise UserError(f"{path}: {path.stat().st_size} bytes; expected at most {LARGEST_MEDIUM} for a page")
    return path


def _address(file: str) -> str:
    """A file beside the page, as a link holds it; its name need not be text."""
    return quote(os.fsencode(file))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{whole} s"
    return f"{whole // 60} min {whole % 60} s"


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]


def _linked(text: str, own: str = "") -> Markup:
    """Text whose paths of other pages lead there. ``own``: the page that it belongs to, as seen from this one."""
    start = escape(own.removesuffix(PAGE))
    return Markup(PATH.sub(lambda found: f'<a href="{start}{found.group()}">{found.group()}</a>', str(escape(text))))


def _plain(value: Any) -> str:
    """A detail as a reader wants it: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cmmulti.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "address": _address,
        "duration": _duration,
        "paragraphs": _paragraphs,
        "figures": figures_table,
        "plain": _plain,
        "linked": _linked,
    }
    environment.globals["data_uri"] = data_uri
    return environment
