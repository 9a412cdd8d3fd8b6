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


def names(group: str) -> list[str]:
    """Sorted names of everything registered in ``group``; imports nothing."""
    return sorted(_entries(group))


def load(group: str, name: str) -> Any:
    """The object registered as ``name`` in ``group`` (usually a class).

    Raises:
        UserError: the name is unknown (the nearest one is named), or its package fails to import.
    """
    entries = _entries(group)
    if name not in entries:
        raise unknown_name(group.removesuffix("s").replace("modalitie", "modality").replace("_", " "), name, entries)
    try:
        return entries[name].load()
    except Exception as error:  # a module may raise anything when it is imported
        raise _broken(group, entries[name], error) from error


def model_folder(name: str) -> Path:
    """The folder of a model shipped under ``name``; a ``cmmulti.models`` entry names a package that is that folder.

    Raises:
        UserError: the name is unknown, its package fails to import, or it names no package.
    """
    entries = _entries("models")
    if name not in entries:
        raise unknown_name("model", name, entries)
    try:
        places = getattr(import_module(entries[name].module), "__path__", ())
    except Exception as error:
        raise _broken("models", entries[name], error) from error
    # Not by importlib.resources: a package without a file of Python is no single path there.
    folder = next(iter(places), None)
    if folder is None:
        raise UserError(f"models: {name!r} ({entries[name].value}): expected a package that is a model folder")
    return Path(folder)


def _broken(group: str, entry: EntryPoint, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {error}"
    return UserError(f"{group}: {entry.name!r} ({entry.value}) cannot be loaded: {reason}")
