"""What is installed, by name: modalities, methods, networks, feature networks, operators, solvers, models, makers of data
sets.

Every piece, ours or a third party's, is an entry point of one of :data:`GROUPS`. Listing names reads package metadata
only; a piece is imported when it is asked for, so that a broken plug-in is reported by name and the rest still work.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from cmmulti.errors import UserError, unknown_name

GROUPS = ("modalities", "methods", "networks", "feature_networks", "operators", "solvers", "models", "preparers")


@cache
def _entries(group: str) -> dict[str, EntryPoint]:
    if group not in GROUPS:
        raise unknown_name("registry group", group, GROUPS)
    return {entry.name: entry for entry in entry_points(group=f"cmmulti.{group}")}


@cache
def _places(group: str) -> dict[str, set[str]]:
    """Where the entries of each name lead."""
    places: dict[str, set[str]] = {}
    for entry in entry_points(group=f"cmmulti.{group}"):
        places.setdefault(entry.name, set()).add(entry.value)
    return places


def names(group: str) -> list[str]:
    """Sorted names of everything registered in ``group``; imports nothing."""
    return sorted(_entries(group))


def load(group: str, name: str) -> Any:
    """The object registered as ``name`` in ``group`` (usually a class).

    Raises:
        UserError: the name is unknown (the nearest one is named) or that of several, or its package fails to import.
    """
    entry = _entry(group, name)
    try:
        return entry.load()
    except Exception as error:  # a module may raise anything when it is imported
        raise _broken(group, entry, error) from error


def model_folder(name: str) -> Path:
    """The folder of a model shipped under ``name``; a ``cmmulti.models`` entry names a package that is that folder.

    Raises:
        UserError: the name is unknown or that of several, its package fails to import, or it names no package.
    """
    entry = _entry("models", name)
    try:
        places = getattr(import_module(entry.module), "__path__", ())
    except Exception as error:  # as in load
        raise _broken("models", entry, error) from error
    # Not by importlib.resources: a package without a file of Python is no single path there.
    folder = next(iter(places), None)
    if folder is None:
        raise UserError(f"models: {name!r} ({entry.value}): expected a package that is a model folder")
    return Path(folder)


def _entry(group: str, name: str) -> EntryPoint:
    """The one entry of that name; of two packages' pieces none is taken, since chance says which is found last."""
    entries = _entries(group)
    if name not in entries:
        raise unknown_name(group.removesuffix("s").replace("modalitie", "modality").replace("_", " "), name, entries)
    if len(places := _places(group).get(name, ())) > 1:
        told = " and as ".join(sorted(places))
        raise UserError(f"{group}: {name!r} is registered as {told}; expected one: another name, or one package less")
    return entries[name]


def _broken(group: str, entry: EntryPoint, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {error}"
    return UserError(f"{group}: {entry.name!r} ({entry.value}) cannot be loaded: {reason}")
