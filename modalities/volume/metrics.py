"""Figures of a reconstruction against the truth, in fastMRI's definitions (arXiv 1811.08839, section 5) over all slices."""

from __future__ import annotations

import numpy as np
import skimage

from modalities.volume.item import Array, Kind

MU_WATER = 0.0194
"""Linear attenuation of water at about 70 keV, 1/mm."""

TISSUE_HU = -200.0
"""Above it a voxel is tissue, neither air nor lung."""


def nmse(truth: Array, result: Array) -> float:
    """``|truth - result|^2 / |truth|^2`` over the volume."""
    return float(np.sum((truth - result) ** 2) / np.sum(truth**2))


def psnr(truth: Array, result: Array) -> float:
    """In dB, from the mean square error and the largest true value of the whole volume."""
    error = float(np.mean((truth - result) ** 2))
    return float(10 * np.log10(truth.max() ** 2 / error)) if error > 0 else float("inf")


def ssim(truth: Array, result: Array) -> float:
    """Mean over slices (first axis) of SSIM with a uniform 7 x 7 window; range: the largest true value of the volume."""
    each = [
        skimage.metrics.structural_similarity(t, r, data_range=float(truth.max()))
        for t, r in zip(truth, result, strict=True)
    ]
    return float(np.mean(each))


def mr_metrics(truth: Array, result: Array) -> dict[str, float]:
    """``psnr``, ``ssim``, ``nmse`` of magnitudes (slices, rows, columns); no crop."""
    truth, result = truth.astype(np.float64), result.astype(np.float64)
    return {"psnr": psnr(truth, result), "ssim": ssim(truth, result), "nmse": nmse(truth, result)}


def ct_metrics(truth: Array, result: Array) -> dict[str, float]:
    """The same of the attenuation, mu >= 0, and ``mae_hu``: mean absolute error in HU where the truth is tissue.

    Args:
        truth, result: HU (slices, rows, columns); values below -1000 are air. Without tissue there is no ``mae_hu``.
    """
    truth, result = truth.astype(np.float64), result.astype(np.float64)
    figures = mr_metrics(attenuation(truth), attenuation(result))
    tissue = truth > TISSUE_HU
    if tissue.any():
        figures["mae_hu"] = float(np.abs(truth - result)[tissue].mean())
    return figures


def attenuation(hu: Array) -> Array:
    """HU -> linear attenuation in 1/mm; below -1000 is air, 0."""
    return MU_WATER * (1 + np.maximum(hu, -1000) / 1000)


def volume_metrics(kind: Kind, truth: Array, result: Array) -> dict[str, float]:
    """The figures of one kind of scan; (slices, rows, columns), at least 7 x 7 pixels a slice."""
    return mr_metrics(truth, result) if kind == "mr" else ct_metrics(truth, result)
