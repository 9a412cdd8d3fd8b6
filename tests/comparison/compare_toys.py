"""Two small data sets of waves and a method that fails, known to the registry. Also a command line with both."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from evaluation_toys import LENGTH, Fill, WaveModality, Waves

from cmmulti import registry
from cmmulti.errors import UserError
from cmmulti.media import Media, Picture
from cmmulti.methods.base import Loss
from cmmulti.methods.edm import EDM
from cmmulti.modality import DataSource, Split


class Shown(WaveModality):
    """Waves that a page can show, with a task; data sets other than ``waves`` do not exist."""

    tasks = {"fill": Fill()}

    def render(self, panels: Mapping[str, Tensor], reference: str | None = None, mark: Any = None) -> list[Media]:
        return [Picture(_png(wave), f"{name} · one scale", name) for name, wave in panels.items()]

    def network(self) -> dict[str, Any]:
        return {"dims": 1, "in_channels": 1, "channels": [8], "groups": 4, "classes": 2}

    def dataset(self, source: DataSource, split: Split) -> Waves:
        if source.name not in ("waves", "swells"):
            raise UserError(f"data.name = {source.name!r}: expected 'waves' or 'swells'")
        return Cut(split, source.options.get("crop", LENGTH))


class Cut(Waves):
    """The beginnings of waves."""

    def __init__(self, split: Split, length: int) -> None:
        super().__init__(split)
        self.length = length

    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        return super().tensor(index, generator)[..., : self.length]


class Fails(EDM):
    """Denoising that ends at its fourth step: by a mistake of the user's, or by a bug where the seed is odd."""

    def loss(self, model: Any, x0: Any, condition: Any, progress: Any, randomness: Any) -> Loss:
        if progress.step == 3:
            raise (
                ZeroDivisionError("one over nothing")
                if randomness.seed % 2
                else UserError("the fourth step is one too many")
            )
        return super().loss(model, x0, condition, progress, randomness)


def _png(wave: Tensor) -> bytes:
    rows = wave.repeat(4, 1).clamp(-1, 1).add(1).mul(127.5).byte()
    buffer = io.BytesIO()
    Image.fromarray(rows.numpy()).save(buffer, "PNG")
    return buffer.getvalue()


ORIGINAL = registry._entries
EXTRA = {"modalities": {"waves": "Shown"}, "methods": {"fails": "Fails"}}


def entries(group: str) -> dict[str, EntryPoint]:
    """The registry with the toys in it."""
    added = {n: EntryPoint(n, f"compare_toys:{o}", f"cmmulti.{group}") for n, o in EXTRA.get(group, {}).items()}
    return {**ORIGINAL(group), **added}


QUICK = {"n": 16, "steps": [1], "classifier_steps": 5}
ALONE: dict[str, Any] = {
    "methods": {"ict": {"method": {"name": "ict"}}},
    "cells": {"waves": {"config": "waves.yaml"}},
    "budget": {"steps": 2},
    "evaluation": QUICK,
}
"""One small model."""


def summary(out: Path) -> dict[str, Any]:
    """What ``comparison.json`` of a comparison says."""
    found: dict[str, Any] = json.loads((out / "comparison.json").read_text())
    return found


if __name__ == "__main__":
    sys.modules["compare_toys"] = sys.modules[__name__]
    registry._entries = entries  # type: ignore[assignment]
    torch.set_num_threads(1)
    pause, read = float(os.environ.get("TOY_SLOW", "0")), Waves.tensor

    def slow(self: Waves, index: int, generator: torch.Generator | None) -> Tensor:
        time.sleep(pause if generator is not None else 0)
        return read(self, index, generator)

    Waves.tensor = slow  # type: ignore[method-assign]
    from cmmulti.cli import main

    sys.exit(main(sys.argv[1:]))
