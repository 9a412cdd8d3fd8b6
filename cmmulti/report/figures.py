"""What figures are called on a page, their units, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """How a figure is shown.

    Args:
        name: words for it. unit: of the number, empty for none. better: which way is better, or ``none``; ``one``: the
            nearer to 1. scale: the number is multiplied by it (100 for a share shown in per cent).
        digits: after the decimal point.
    """

    name: str
    unit: str = ""
    better: Literal["higher", "lower", "one", "zero", "none"] = "none"
    digits: int = 3
    scale: float = 1.0

    @property
    def heading(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def direction(self) -> str:
        words = {"higher": "↑ higher is better", "lower": "↓ lower is better"}
        words |= {"one": "→ 1 is best", "zero": "→ 0 is best", "none": ""}
        return words[self.better]

    def text(self, value: float | None) -> str:
        """The number as shown; a dash where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        shown = value * self.scale
        if shown != 0 and abs(shown) < 10.0**-self.digits:
            return f"{shown:.2e}"
        return f"{shown:,.{self.digits}f}".replace(",", "\u202f").replace("-", "−")

    def best(self, values: Mapping[str, float | None]) -> set[str]:
        """Names of the best of ``values``; none where no way is better or nothing is compared."""
        distances = {"higher": lambda v: -v, "lower": lambda v: v, "one": lambda v: abs(v - 1), "zero": abs}
        if self.better not in distances:
            return set()
        scored = {name: distances[self.better](v) for name, v in values.items() if v is not None and math.isfinite(v)}
        if len(scored) < 2:
            return set()
        return {name for name, score in scored.items() if score == min(scored.values())}


KNOWN = {
    "psnr": Figure("PSNR", "dB", "higher", 2),
    "ssim": Figure("SSIM", "", "higher", 4),
    "nmse": Figure("NMSE", "", "lower", 4),
    "mae": Figure("mean absolute error", "", "lower", 4),
    "mae_hu": Figure("mean absolute error in tissue", "HU", "lower", 1),
    "lsd": Figure("log-spectral distance", "dB", "lower", 2),
    "level_error": Figure("level error", "dB", "zero", 2),
    "seam": Figure("seam step over local step", "", "one", 2),
    "accuracy": Figure("classifier accuracy", "%", "higher", 1, 100.0),
    "feature_distance": Figure("feature distance", "", "lower", 4),
    "frechet": Figure("Fréchet distance", "", "lower", 2),
    "frechet_matched": Figure("Fréchet distance, matched N", "", "lower", 2),
    "precision": Figure("precision", "", "higher", 3),
    "recall": Figure("recall", "", "higher", 3),
    "nearer": Figure("nearer to training items", "%", "none", 1, 100.0),
    "copied": Figure("copies of training items", "%", "lower", 1, 100.0),
    "nfe": Figure("network evaluations", "", "none", 0),
    "steps": Figure("steps", "", "none", 0),
    "seconds": Figure("time", "s", "lower", 2),
}
"""The figures that our commands report; any other is shown under its own name."""


def figure(key: str) -> Figure:
    """How to show the figure called ``key``."""
    return KNOWN.get(key, Figure(key.replace("_", " ")))
