"""Training: run folders, their configs and checkpoints."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from cmmulti.config import RunConfig, load_config
from cmmulti.errors import UserError
from cmmulti.training import checkpoint
from cmmulti.training.build import build_method
from cmmulti.training.callbacks.log_file import read
from cmmulti.training.callbacks.validation import VALIDATION
from cmmulti.training.folder import CONFIG, LOG, RunRecord, read_record
from cmmulti.training.health import Facts, findings

UNSEEN = "A loss alone misleads, and no held-out items were looked at ({why}): `cmmulti evaluate` does it."
"""What is said of a run whose samples nobody measured."""


def run(folder: Path) -> dict[str, Any]:
    """A run: what it trains, how far it got, and what looks wrong."""
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: checkpoints without {CONFIG}; expected the folder of a run")
    settings = load_config(folder / CONFIG)
    record = read_record(folder)
    facts = {"kind": "run", "path": str(folder), **_of_config(settings)}
    newest = checkpoint.newest(folder, tell=lambda _: None) if any(folder.glob(checkpoint.PATTERN)) else None
    facts["checkpoints"] = len(list(folder.glob(checkpoint.PATTERN)))
    facts["step"] = 0 if newest is None else newest[1]["step"]
    facts["newest"] = None if newest is None else newest[0].name
    facts["parameters"] = record.parameters
    facts["examples"] = record.examples
    facts["command"] = record.command
    facts["log"] = _last_row(folder / LOG)
    facts["validation"] = _last_row(folder / VALIDATION)
    facts["health"] = _health(folder, settings)
    return facts


def config(path: Path) -> dict[str, Any]:
    """The YAML config of a run, checked as ``train`` checks it."""
    return {"kind": "run config", "path": str(path), **_of_config(load_config(path))}


def checkpoint_file(path: Path) -> dict[str, Any]:
    """A checkpoint, every record's checksum verified."""
    state = checkpoint.load(path)
    weights = [value for value in state.get("model", {}).values() if isinstance(value, Tensor)]
    return {
        "kind": "checkpoint",
        "path": str(path),
        "step": state["step"],
        "parameters": sum(value.numel() for value in weights),
        "holds": sorted(str(key) for key in state if key not in ("format", "step")),
        "megabytes": round(path.stat().st_size / 1e6, 2),
    }


def record(path: Path) -> dict[str, Any]:
    """The facts of a run that its model's card tells."""
    try:
        found = RunRecord.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as the record of a run ({str(error).splitlines()[0]})") from error
    return {"kind": "run record", "path": str(path), **found.model_dump()}


def table(path: Path) -> dict[str, Any]:
    """A log of a run or a manifest of training files: its columns, its size and its last row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            rows, last = 0, {}
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f"{path}: line {reader.line_num}: expected {len(columns)} values, as many as columns")
                rows, last = rows + 1, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a CSV table: {error}") from error
    if not columns:
        raise UserError(f"{path}: an empty file; expected a CSV table with a line of column names")
    return {"kind": "table", "path": str(path), "columns": columns, "rows": rows, "last_row": dict(last)}


def _of_config(settings: RunConfig) -> dict[str, Any]:
    return {
        "modality": settings.modality.name,
        "method": settings.method.name,
        "network": settings.network.name,
        "data": settings.data.name,
        "joint": {name: other.modality.name for name, other in settings.joint.items()},
        "max_steps": settings.trainer.max_steps,
        "batch_size": settings.data.batch_size,
    }


def _health(folder: Path, settings: RunConfig) -> dict[str, str] | str:
    """What looks wrong, by name, each with what to do about it."""
    log, validation = read(folder / LOG), read(folder / VALIDATION)
    method = build_method(settings)
    facts = Facts(
        max_steps=settings.trainer.max_steps,
        role=method.role,
        taught=settings.init is not None,
        staged=bool(method.sampling_levels(settings.sigma_max)),
        export=settings.ema.export or "raw",
        settings=tuple(settings.method.settings),
        nonfinite=settings.trainer.nonfinite,
        precision=settings.trainer.precision,
    )
    if wrong := {f.name: f"{f.what}. {f.advice}." for f in findings(log, validation, facts)}:
        return wrong
    if len(validation) > 1:
        return "nothing looks wrong"
    return f"nothing looks wrong in {LOG}. {UNSEEN.format(why=_unseen(settings, validation))}"


def _unseen(settings: RunConfig, validation: list[dict[str, float]]) -> str:
    """Why there are no two rows of figures on held-out items to compare."""
    if settings.joint:
        return "it trains on several modalities"
    if not settings.validation.every_steps:
        return "validation.every_steps is 0"
    return f"but at step {validation[0]['step']:.0f}" if validation else "its data hold nothing back"


def _last_row(path: Path) -> dict[str, str]:
    """The newest whole line of the log by column, without reading a long log into a table."""
    last: list[str] = []
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        with path.open(encoding="utf-8") as file:
            head = next(file).rstrip("\n").split(",")
            for line in file:
                # A killed run may have left the last one without its end.
                if line.endswith("\n") and len(cells := line.rstrip("\n").split(",")) == len(head):
                    last = cells
    except (OSError, StopIteration, UnicodeDecodeError):
        return {}
    return dict(zip(head, last, strict=True)) if last else {}
