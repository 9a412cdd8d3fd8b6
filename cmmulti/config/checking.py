"""Check a mapping against a pydantic model, and tell all its mistakes in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from cmmulti.errors import UserError

M = TypeVar("M", bound=BaseModel)

MOST_UNKNOWN = 5
"""Unknown keys of a section that are named: a file with more of them is of another kind."""


def checked(kind: type[M], values: Mapping[str, Any], where: str) -> M:
    """An instance of ``kind`` made from ``values``.

    Raises:
        UserError: one line that starts with ``where`` and names every wrong key, its value and what was expected; an
            unknown key comes with the nearest good one.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(mistakes(error, kind))) from error


def mistakes(error: ValidationError, kind: type[BaseModel]) -> Iterator[str]:
    """One short sentence per mistake; one for all unknown keys of a section that are no slip of the pen."""
    strange: dict[tuple[int | str, ...], list[str]] = {}
    for detail in error.errors():
        path = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            good = _fields_beside(kind, detail["loc"])
            near = difflib.get_close_matches(str(detail["loc"][-1]), good, n=1, cutoff=0.5)
            if near:
                yield f"unknown key {path!r} (did you mean {near[0]!r}?)"
            else:
                strange.setdefault(detail["loc"][:-1], []).append(path)
        elif detail["type"] == "missing" and isinstance(detail["loc"][-1], int):
            # A tuple that is too short: one mistake per value that it lacks, of which the first tells all.
            parent, given = detail["loc"][:-1], len(detail["input"])
            lacking = sum(d["type"] == "missing" and d["loc"][:-1] == parent for d in error.errors())
            if detail["loc"][-1] == given:
                whole = ".".join(map(str, parent))
                yield f"{whole} = {_short(detail['input'])}: expected {given + lacking} values, got {given}"
        elif detail["type"] == "missing":
            yield f"missing key {path!r}{_meaning(kind, detail['loc'])}"
        else:
            message = detail["msg"].removeprefix("Value error, ")
            about = (
                f"{path} = {_short(detail['input'])}: " if path else ""
            )  # a whole section's mistake names its keys itself
            yield f"{about}{message[:1].lower()}{message[1:]}"
    for section, paths in strange.items():
        named = ", ".join(map(repr, paths[:MOST_UNKNOWN]))
        more = f" and {len(paths) - MOST_UNKNOWN} more" if len(paths) > MOST_UNKNOWN else ""
        known = ", ".join(sorted(_fields_beside(kind, (*section, ""))))
        yield f"unknown key{'s' if len(paths) > 1 else ''} {named}{more} (known: {known})"


def _meaning(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """What the key at ``location`` is, in brackets, where its model says so."""
    field = _fields_beside(kind, location).get(str(location[-1]))
    return f" ({field.description})" if field is not None and field.description else ""


def _fields_beside(kind: type[BaseModel], location: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    """The fields of the model at the parent of ``location``."""
    current: Any = kind
    for part in location[:-1]:
        fields = getattr(current, "model_fields", {})
        if isinstance(part, int):
            current = next(iter(get_args(current)), None)
        elif part in fields:
            current = fields[part].annotation
    return dict(getattr(current, "model_fields", {}))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
