"""Result folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmmulti.errors import UserError
from cmmulti.report import gather, read_results


def folder(path: Path) -> dict[str, Any]:
    """What a command left; files that ``results.json`` names must be there."""
    found = read_results(path)
    for output in found.outputs:
        if not (path / output.file).exists():
            raise UserError(f"{path / output.file}: no such file, though {path / 'results.json'} names it")
    facts = found.model_dump(mode="json", exclude={"sections", "outputs", "details"})
    files = [output.file for output in found.outputs]
    return {"kind": "results", "path": str(path), **facts, "outputs": files}


def file(path: Path) -> dict[str, Any]:
    """``results.json``: the folder that it belongs to."""
    return folder(path.parent)


def folders(path: Path) -> dict[str, Any]:
    """A folder of result folders."""
    return {"kind": "results of several commands", "path": str(path), "parts": [part.folder for part in gather(path).parts]}
