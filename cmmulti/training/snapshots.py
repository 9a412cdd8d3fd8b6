"""Snapshots of a run's power-function averages, in half precision, and averages made of them after the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cmmulti.config import RunConfig
from cmmulti.config.schema import WIDEST
from cmmulti.errors import UserError
from cmmulti.files import regular_file, replacing
from cmmulti.training.ema import Power, Profile
from cmmulti.training.posthoc import mixture, within

FOLDER, PATTERN = "snapshots", "step-*.safetensors"

MISFIT = 0.05
"""Largest misfit of an average that is made. Beyond it the profile is another one, and weights of both signs that add up to
far more than 1 amplify the rounding of half precision."""


def is_due(step: int, budget: int, count: int) -> bool:
    """Whether one of ``count`` snapshots, evenly spread over ``budget`` steps and the last at its end, is of ``step``."""
    return step * count // budget > (step - 1) * count // budget


def kept(profiles: Mapping[str, Profile]) -> list[str]:
    """Names of the averages that snapshots hold: those whose profile has a closed form."""
    return [name for name, profile in profiles.items() if isinstance(profile, Power)]


def write(run: Path, step: int, names: Sequence[str], averages: Mapping[str, Sequence[Tensor]]) -> Path:
    """``snapshots/step-NNNNNNNN.safetensors``, float16, whole or not at all.

    Args:
        names: of the parameters. averages: by profile, a tensor per parameter.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    path = run / FOLDER / f"step-{step:08d}.safetensors"
    state = {
        f"{profile}/{name}": tensor.detach().half().cpu().contiguous()
        for profile, tensors in averages.items()
        for name, tensor in zip(names, tensors, strict=True)
    }
    try:
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as part:
            save_file(state, part, metadata={"format": "pt", "step": str(step)})
    except (OSError, SafetensorError) as error:  # safetensors has its own name for a full disk
        raise UserError(f"{path}: cannot write the snapshot ({getattr(error, 'strerror', None) or error})") from error
    return path


def reconstruct(
    run: Path,
    config: RunConfig,
    step: int,
    names: Sequence[str],
    averages: Mapping[str, Sequence[Tensor]],
    sigma_rel: float,
) -> tuple[list[Tensor], str]:
    """The average of relative width ``sigma_rel`` after ``step``, float32, a tensor per parameter, and how it was made.

    Snapshots later than ``step`` are left out; of ``step`` itself there are the tracked averages, in float32.

    Args:
        names: of the parameters. averages: those tracked, as they are after ``step``.

    Raises:
        UserError: the width is out of range, or more than :data:`MISFIT` off what the snapshots make; there is no snapshot,
            or one is damaged or of another architecture.
    """
    if not 0 < sigma_rel < WIDEST:
        raise UserError(f"--ema-sigma-rel {sigma_rel:g}: expected a relative width in (0, {WIDEST:.4f})")
    widths = {f"sigma-rel-{width:g}": width for width in config.ema.sigma_rel or ()}
    paths = {at: path for at, path in _found(run) if at < step}
    if not widths or not paths:
        raise UserError(
            f"{run}: no snapshots of averages up to step {step} to make another width of; expected a run trained with "
            "ema.snapshots, such as 16"
        )
    sources = [(at, name) for at in (*paths, step) for name in widths]
    stored = [(at, widths[name]) for at, name in sources]
    mixed = mixture(stored, step, sigma_rel)
    count = f"{len(paths)} snapshot{'s' if len(paths) > 1 else ''}"
    if mixed.misfit > MISFIT:
        had = (f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in within(stored, step, MISFIT))
        raise UserError(
            f"--ema-sigma-rel {sigma_rel:g}: made of {count} it has a misfit of {mixed.misfit:.0%}; expected a width "
            f"of at most {MISFIT:.0%}: {', '.join(had)}"
        )
    weights = dict(zip(sources, mixed.weights, strict=True))
    total = [torch.zeros(tensor.shape) for tensor in next(iter(averages.values()))]
    for name in widths:
        torch._foreach_add_(total, list(averages[name]), alpha=float(weights[step, name]))
    for at, path in paths.items():
        kept_then = _read(path, list(widths), names, total)
        for name in widths:
            torch._foreach_add_(total, kept_then[name], alpha=float(weights[at, name]))
    return total, f"sigma-rel-{sigma_rel:g}, made of {count}, misfit {mixed.misfit:.2%}"


def remove_leftovers(run: Path) -> None:
    """Delete half-written snapshots of a run that was killed."""
    for part in (run / FOLDER).glob(f".{PATTERN}"):
        part.unlink(missing_ok=True)


def remove_later(run: Path, step: int) -> None:
    """Delete snapshots of steps after ``step``, from which the run goes on: with another budget it comes to other weights.

    Raises:
        UserError: one cannot be deleted.
    """
    for at, path in _found(run):
        if at > step:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{path}: cannot be deleted ({error.strerror or error})") from error


def _found(run: Path) -> Iterator[tuple[int, Path]]:
    for path in sorted((run / FOLDER).glob(PATTERN)):
        number = path.stem.removeprefix("step-")
        if number.isdecimal() and int(number) > 0:
            yield int(number), path


def _read(path: Path, profiles: Sequence[str], names: Sequence[str], like: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """The averages in a snapshot, float32, checked to be finite and of the shapes of ``like``."""
    found: dict[str, list[Tensor]] = {}
    regular_file(path, "averages of a run")
    try:
        with safe_open(path, framework="pt") as stored:
            for profile in profiles:
                found[profile] = [stored.get_tensor(f"{profile}/{name}").float() for name in names]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged, or of other averages ({error}); without this file the others serve") from error
    for profile, tensors in found.items():
        for name, tensor, wanted in zip(names, tensors, like, strict=True):
            if tensor.shape != wanted.shape:
                raise UserError(f"{path}: {name} is {tuple(tensor.shape)}, expected {tuple(wanted.shape)}")
            if not bool(torch.isfinite(tensor).all()):
                raise UserError(f"{path}: {name} of {profile} holds NaN or infinity; without this file the others serve")
    return found
