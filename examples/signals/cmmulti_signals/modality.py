"""The adapter of signals: everything that cmmulti asks of a modality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cmmulti.media import Media
from cmmulti.modality import DataSource, Modality, Split, require_whole
from cmmulti.operators.affine import Affine
from cmmulti.randomness import SampleRandomness
from cmmulti_signals import datasets, files, representation
from cmmulti_signals.datasets import SignalSet
from cmmulti_signals.render import render
from cmmulti_signals.settings import SignalSettings
from cmmulti_signals.signal import Signal
from cmmulti_signals.tasks import Inpaint


class SignalModality(Modality):
    """Signals of one or several channels at a constant rate, in CSV files."""

    name = "signals"
    Settings = SignalSettings
    settings: SignalSettings
    tasks = {"inpaint": Inpaint()}
    extension = ".csv"
    suffixes = (".csv",)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.settings.channels, self.settings.length)

    def load(self, path: Path) -> Signal:
        return files.load(path)

    def encode(self, item: Signal) -> Tensor:
        return representation.encode(item, self.settings)

    def decode(self, x: Tensor, like: Signal | None = None, randomness: SampleRandomness | None = None) -> Signal:
        require_whole(x, len(self.shape) + 1)
        return representation.decode(x, self.settings, like)

    def save(self, item: Signal, path: Path) -> Path:
        return files.save(item, path)

    def render(self, panels: Mapping[str, Signal], reference: str | None = None, mark: Any = None) -> list[Media]:
        return render(panels, mark)

    def affine(self, item: Signal) -> Affine:
        return representation.affine(item, self.settings)

    def metrics(self, result: Signal, truth: Signal, mark: Any = None) -> dict[str, float]:
        """``rmse`` in millivolts, and ``psnr`` against the truth's range; inside ``mark`` where it is given."""
        where = np.ones(len(truth.samples), bool) if mark is None else mark
        error = float(np.sqrt(np.mean((result.samples - truth.samples)[where] ** 2)))
        return {"rmse": error, "psnr": float(20 * np.log10(np.ptp(truth.samples) / max(error, 1e-9)))}

    def specification(self) -> dict[str, str]:
        settings = self.settings
        return {
            "rate": f"{settings.rate:g} Hz",
            "window": f"{settings.length / settings.rate:g} s, {settings.length} samples",
            "channels": f"{settings.channels}, {settings.scale:g} mV stand for 1",
        }

    def network(self) -> dict[str, Any]:
        return {
            "dims": 1,
            "in_channels": self.settings.channels,
            "channels": [32, 64, 96],
            "blocks": 1,
            "attention": [2],
            "patch": 4,
            "classes": self.settings.classes,
        }

    def dataset(self, source: DataSource, split: Split) -> SignalSet:
        return datasets.dataset(source, split, self.settings)
