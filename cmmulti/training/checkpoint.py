"""A run's state on disk: written whole or not at all, verified when read, no pickle executed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cmmulti.errors import UserError
from cmmulti.files import regular_file, replacing
from cmmulti.training.module import TrainingModule
from cmmulti.training.sharding import spread_optimizer, spread_state, whole

FORMAT = 1
PATTERN = "step-*.ckpt"


def state_of(module: TrainingModule, optimizer: Optimizer) -> dict[str, Any]:
    """Everything that the next step depends on, whole: where weights are sharded, all processes call this together.

    A teacher is not stored: the run's config names it.
    """
    return {
        "format": FORMAT,
        "step": module.step,
        "stage_start": module.stage_start,
        "nonfinite": module.nonfinite,
        "model": whole(module.model.state_dict()),
        "method": whole(_own_state(module)),
        "ema": whole(module.ema.state_dict()),
        "optimizer": whole(optimizer.state_dict()),
    }


def restore(module: TrainingModule, optimizer: Optimizer, state: Mapping[str, Any], path: Path) -> None:
    """Put a run back where ``state`` was taken.

    Raises:
        UserError: the state is of another architecture, method or set of averages.
    """
    try:
        module.model.load_state_dict(spread_state(state["model"], module.model))
        wanted = _own_state(module)
        if wanted.keys() != state["method"].keys():
            raise KeyError(f"state of the method: {sorted(wanted.keys() ^ state['method'].keys())[:3]}")
        module.method.load_state_dict(spread_state(state["method"], module.method), strict=False)
        module.ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(spread_optimizer(state["optimizer"], optimizer))
        module.step, module.stage_start = int(state["step"]), int(state["stage_start"])
        module.nonfinite = int(state.get("nonfinite", 0))  # runs of before it was counted have none
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: checkpoint of another architecture or method ({error})") from error


def save(state: Mapping[str, Any], folder: Path, keep: int) -> Path:
    """Write ``step-NNNNNNNN.ckpt`` atomically and drop all but the newest ``keep``.

    Files of later steps go, too: a run that goes on from an earlier one has passed them over as damaged.

    Raises:
        UserError: the folder cannot be written or the disk is full; nothing half-written stays.
    """
    path = folder / f"step-{state['step']:08d}.ckpt"
    try:
        with replacing(path) as part, open(part, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(folder)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot write the checkpoint ({getattr(error, 'strerror', None) or error})") from error
    steps = _steps(folder)
    kept = [step for step in steps if step <= state["step"]][-keep:]
    for step in steps.keys() - set(kept):
        steps[step].unlink(missing_ok=True)
    return path


def load(path: Path) -> dict[str, Any]:
    """A verified checkpoint on the CPU: every record's CRC-32 is checked, and only tensors and plain values are read.

    Raises:
        UserError: the file is damaged or no checkpoint of a run.
    """
    regular_file(path, "a checkpoint of a run")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise UserError(f"{path}: damaged checkpoint (checksum of {damaged} does not match)")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged archive fails in many ways, all of them the file's fault
        raise UserError(f"{path}: damaged checkpoint ({error}); expected a whole file written by a run") from error
    kinds = {"format": int, "step": int, "model": dict}
    if not isinstance(state, dict) or any(not isinstance(state.get(k), kind) for k, kind in kinds.items()):
        raise UserError(f"{path}: not a checkpoint of a run (format {FORMAT} expected)")
    if state["format"] != FORMAT:
        raise UserError(f"{path}: not a checkpoint of a run (format {FORMAT} expected)")
    return state


def newest(folder: Path, tell: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read; each damaged one is told and passed over. None where there is none.

    Raises:
        UserError: there are checkpoints and all are damaged.
    """
    found = _steps(folder)
    for path in reversed(found.values()):
        try:
            return path, load(path)
        except UserError as error:
            tell(f"{error}; trying the previous checkpoint")
    if found:
        raise UserError(f"{folder}: all {len(found)} checkpoints are damaged; expected at least one whole step-*.ckpt")
    return None


def remove_leftovers(folder: Path) -> None:
    """Delete half-written files of a run that was killed."""
    for part in folder.glob(".step-*.ckpt"):
        part.unlink(missing_ok=True)


def _steps(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder by their step, in its order."""
    numbers = {path.stem.removeprefix("step-"): path for path in folder.glob(PATTERN)}
    return dict(sorted((int(number), path) for number, path in numbers.items() if number.isdecimal()))


def _own_state(module: TrainingModule) -> dict[str, Tensor]:
    """The method's state without a teacher that it may hold."""
    teacher = module.teacher
    held = set() if teacher is None else {t.data_ptr() for t in teacher.state_dict().values() if t.numel()}
    return {k: v for k, v in module.method.state_dict().items() if not v.numel() or v.data_ptr() not in held}


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
