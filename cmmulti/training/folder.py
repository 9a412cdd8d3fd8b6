"""The folder of a run: what is in it, and whether a run may begin or go on there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel

from cmmulti import registry
from cmmulti.config import PieceConfig, RunConfig, read_yaml, resolve, to_yaml
from cmmulti.config.resolve import NETWORK_OF_INIT
from cmmulti.contexts import ContextScale
from cmmulti.errors import UserError
from cmmulti.files import json_text, read_json, replacing
from cmmulti.training import checkpoint, snapshots
from cmmulti.training.origins import Origin

CONFIG, RECORD, LOG, LOCK = "config.yaml", "run.json", "log.csv", ".lock"

MAY_CHANGE = ("trainer.max_steps", "trainer.threads", "trainer.compile", "trainer.nonfinite", "checkpoint", "preview",
              "validation", "log", "data.root", "data.workers", "data.context", "ema.snapshots")  # fmt: skip
"""What a resumed run may say differently; all else would make it another run."""


class RunRecord(BaseModel):
    """Facts for the card: the command, the machine, classes and sizes, and whose data were used on which terms.

    ``joint_classes``: of the further modalities of a joint model, by name. ``context``: what contexts it takes.
    ``origins``: the models that it is made from, by their key in the config.
    """

    command: str = ""
    device: str = ""
    classes: list[str] = []
    joint_classes: dict[str, list[str]] = {}
    examples: int = 0
    parameters: int = 0
    version: str = ""
    licence: str = ""
    attribution: str = ""
    context: ContextScale | None = None
    origins: dict[str, Origin] = {}


def check(out: Path, resume: bool) -> None:
    """Look whether a run may begin here, before anything is loaded; nothing is made yet.

    Raises:
        UserError: the folder cannot be written, or holds a run already and ``resume`` is false.
    """
    if not resume and (any(out.glob(checkpoint.PATTERN)) or (out / LOG).exists()):
        raise UserError(f"{out}: already holds a run; add --resume to go on with it, or choose another --out")
    nearest = next((p for p in (out, *out.absolute().parents) if p.exists()), Path("/"))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"{out}: cannot be written ({nearest} is {'not writable' if nearest.is_dir() else 'a file'})")


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Make the folder and keep other processes from training in it; the system lets them in should this one die.

    Raises:
        UserError: another process trains here, or the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{out}: another process is training here; wait for its end, or choose another --out") from error
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()


def begin(out: Path, config: RunConfig, record: RunRecord) -> None:
    """Clear what a killed run left half-written, and save the resolved config and the record."""
    earlier = read_record(out)
    if earlier.command:  # a resumed run is still the run that was begun
        record = record.model_copy(update={"command": earlier.command})
    try:
        checkpoint.remove_leftovers(out)
        snapshots.remove_leftovers(out)
        with replacing(out / CONFIG) as part:
            part.write_text(to_yaml(config.model_dump(mode="json")), encoding="utf-8")
        with replacing(out / RECORD) as part:
            part.write_text(json_text(record.model_dump(mode="json")), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error


def read_record(run: Path) -> RunRecord:
    """The record of a run; an empty one where it is missing or unreadable, since it only serves the card."""
    try:
        return RunRecord.model_validate(read_json(run / RECORD, "the record of a run"))
    except (UserError, ValueError):
        return RunRecord()


def same_run(out: Path, config: RunConfig) -> RunConfig:
    """``config`` with what the run measured when it began, refused where it is a different run.

    Raises:
        UserError: naming each key that differs.
    """
    if not (out / CONFIG).is_file():
        return config
    stored = resolve(read_yaml(out / CONFIG), str(out / CONFIG))
    if config.sigma_data is None:
        config = config.model_copy(update={"sigma_data": stored.sigma_data})
    if config.network.name == NETWORK_OF_INIT:
        config = config.model_copy(update={"network": stored.network})
    if config.data.context is not None and not config.network.settings.get("context_width"):
        filled = {k: v for k, v in stored.network.settings.items() if k == "context_width"}
        piece = PieceConfig.of(config.network.name, config.network.settings | filled)
        config = config.model_copy(update={"network": piece})
    now, before = config.modality, stored.modality
    if now.name == before.name:
        measured = {k: before.settings.get(k) for k, v in now.settings.items() if v is None}
        config = config.model_copy(update={"modality": PieceConfig.of(now.name, now.settings | measured)})
    parts = {}
    for name, part in config.joint.items():
        known = stored.joint[name].modality.settings if name in stored.joint else {}
        open_ = {k: known.get(k) for k, v in part.modality.settings.items() if v is None}
        piece = PieceConfig.of(part.modality.name, part.modality.settings | open_)
        parts[name] = part.model_copy(update={"modality": piece})
    config = config.model_copy(update={"joint": parts})
    if config.ema.sigma_rel is None:
        # Where nothing else is tracked, it was left open, too, which average is exported.
        export = config.ema.export if config.ema.half_lives else stored.ema.export
        ema = config.ema.model_copy(update={"sigma_rel": stored.ema.sigma_rel, "export": export})
        config = config.model_copy(update={"ema": ema})
    was, says = _flat(stored.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
    keys = sorted(k for k in was.keys() | says.keys() if was.get(k) != says.get(k))
    # With more steps a method in stages would go back to one whose teacher is no longer there.
    fixed = [] if registry.load("methods", config.method.name).extends else ["trainer.max_steps"]
    fixed += [] if stored.ema.sigma_rel else ["ema.snapshots"]  # no averages to keep any of
    wrong = [k for k in keys if k in fixed or not any(k == m or k.startswith(f"{m}.") for m in MAY_CHANGE)]
    if wrong:
        told = "; ".join(f"{k} = {says.get(k)!r}, expected {was.get(k)!r}" for k in wrong)
        raise UserError(f"{out / CONFIG}: --resume with another config than the run began with: {told}")
    return config


def same_material(out: Path, record: RunRecord) -> None:
    """Refuse a resumed run whose data, contexts, or models that it is made from are no longer those it began with.

    Raises:
        UserError: naming what changed.
    """
    before = read_record(out)
    if not before.version:
        return  # the record is lost: there is nothing to hold it against
    if before.context != record.context:
        raise UserError(f"{out}: --resume with data.context of other columns, means or deviations than the run began with")
    if before.examples != record.examples:
        raise UserError(f"{out}: --resume with {record.examples} examples, expected the {before.examples} it began with")
    if (before.classes, before.joint_classes) != (record.classes, record.joint_classes):
        raise UserError(f"{out}: --resume with classes {record.classes}, expected {before.classes}, as it began with")
    for key, origin in record.origins.items():
        if key in before.origins and before.origins[key].weights != origin.weights:
            raise UserError(f"{out}: --resume with {key} = {origin.name}: its weights are not those the run began with")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for k, v in values.items():
        if isinstance(v, dict) and v:
            flat |= _flat(v, f"{prefix}{k}.")
        else:
            flat[f"{prefix}{k}"] = v
    return flat
