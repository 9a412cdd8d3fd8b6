"""Figures of a filled hole against the truth, over the hidden voxels alone."""

from __future__ import annotations

import numpy as np

from modalities.volume.item import Array, Kind
from modalities.volume.metrics import attenuation


def hole_metrics(kind: Kind, truth: Array, result: Array, whole: Array) -> dict[str, float]:
    """``psnr`` (peak: the largest value of the whole true scan), ``nmse`` and ``mae`` (CT: ``mae_hu``) inside the hole.

    Args:
        truth, result: (n,) physical values of the hidden voxels. whole: every value of the true scan. CT figures but the
            last are of the attenuation, mu >= 0, as for reconstructions.
    """
    a, b, peak = (v.astype(np.float64) for v in (truth, result, whole.max()))
    figures = {"mae" if kind == "mr" else "mae_hu": float(np.abs(a - b).mean())}
    if kind == "ct":
        a, b, peak = attenuation(a), attenuation(b), attenuation(peak)
    square, power = float(((a - b) ** 2).mean()), float((a**2).mean())
    figures["psnr"] = float(10 * np.log10(peak**2 / square)) if square > 0 else float("inf")
    if power > 0:
        figures["nmse"] = square / power
    return figures
