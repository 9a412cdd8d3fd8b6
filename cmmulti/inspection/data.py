"""Files that a modality reads: asked of the installed adapters, none of them named here."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from cmmulti import registry
from cmmulti.archives import read_header
from cmmulti.description import UnclaimedError
from cmmulti.errors import UserError
from cmmulti.files import DAMAGED_ARCHIVE
from cmmulti.inspection.runs import table
from cmmulti.modality import Modality

MOST_FILES = 1_000_000


def file(path: Path) -> dict[str, Any]:
    """A file, described by the adapter that claims its suffix, or by whichever can read it.

    Raises:
        UserError: the claiming adapter cannot read it, or none can.
    """
    adapters = _adapters()
    claiming = [adapter for adapter in adapters if path.name.lower().endswith(tuple(adapter.suffixes))]
    if path.suffix.lower() == ".zip":
        return _archive(path, adapters)
    for adapter in claiming or adapters:
        try:
            return {"kind": adapter.name, "path": str(path), **adapter.describe(path)}
        except UnclaimedError:
            continue
        except UserError:
            if claiming:
                raise
    if path.suffix.lower() == ".npz":
        return _arrays(path)
    if path.suffix.lower() == ".csv":
        return table(path)
    raise _unknown(path, adapters)


def folder(path: Path) -> dict[str, Any]:
    """A folder of data: one item that is a folder itself (a DICOM series), or files to train on.

    Where it looks like an item and is none, such as a series that lacks a slice, ``not_one_item`` says why.
    """
    adapters = _adapters()
    reasons = []
    for adapter in adapters:
        if adapter.folder_items:
            try:
                return {"kind": adapter.name, "path": str(path), **adapter.describe(path)}
            except UnclaimedError:
                continue
            except UserError as error:
                reasons.append(error)
    counts = _counted((p.name for p in path.rglob("*") if p.is_file()), adapters)
    if counts:
        told = {"not_one_item": "; ".join(map(str, reasons))} if reasons else {}
        return {"kind": "folder of data", "path": str(path), "files": counts, **told}
    raise reasons[0] if reasons else _unknown(path, adapters)


def _archive(path: Path, adapters: list[Modality]) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            counts = _counted((PurePosixPath(name).name for name in archive.namelist()), adapters)
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: not a readable zip archive ({error})") from error
    if not counts:
        raise _unknown(path, adapters)
    return {"kind": "archive of data", "path": str(path), "files": counts}


def _arrays(path: Path) -> dict[str, Any]:
    """A prepared data set: names, shapes and types of its arrays. Headers alone are read."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    header = read_header(stream)
                if header.size > member.file_size:
                    told = f"{header.shape} of {header.dtype}"
                    raise UserError(f"{path}: {member.filename} promises {told}, more than the file holds")
                found[member.filename.removesuffix(".npy")] = f"{header.dtype} {header.shape}"
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: not a readable .npz archive ({error})") from error
    return {"kind": "archive of arrays", "path": str(path), "arrays": found}


def _counted(names: Iterable[str], adapters: list[Modality]) -> dict[str, int]:
    """How many files each adapter would read."""
    counts: Counter[str] = Counter()
    for number, name in enumerate(names):
        if number >= MOST_FILES:
            break
        for adapter in adapters:
            if not name.startswith(".") and name.lower().endswith(tuple(adapter.suffixes)):
                counts[adapter.name] += 1
    return dict(counts)


def _adapters() -> list[Modality]:
    """Every installed modality with its default settings; a broken plug-in is left out."""
    found = []
    for name in registry.names("modalities"):
        try:
            adapter = registry.load("modalities", name)
            found.append(adapter(adapter.Settings()))
        except (UserError, ValueError, TypeError):  # a plug-in that cannot be made without settings cannot describe files
            continue
    return found


def _unknown(path: Path, adapters: list[Modality]) -> UserError:
    reads = "; ".join(f"{adapter.name} ({', '.join(adapter.suffixes)})" for adapter in adapters if adapter.suffixes)
    return UserError(
        f"{path}: not a file or folder that cmmulti reads; expected a model, a run, results, a config, or data: {reads}"
    )
