"""Sinograms made from CT slices, by another projector than the one that reconstructs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cmmulti.operators.radon import covering_bins
from modalities.volume.ct.sinogram import PHOTONS, Sinogram
from modalities.volume.item import Array
from modalities.volume.metrics import MU_WATER, attenuation

RAYS_PER_BIN = 2
STEPS_PER_PIXEL = 2
"""Rays are sampled by bilinear interpolation, twice a pixel, and twice a bin."""

TOGETHER = 4
"""Slices at a time: their samples along all rays of a view are in memory."""


def simulate_sinogram(hu: Array, affine: Array, views: int, photons: float | None, seed: int) -> Sinogram:
    """Measure slices with a parallel beam over 180 degrees, the last view one step short of it.

    The detector sees the whole slice, its bins are as wide as a pixel. Intensities, not line integrals, are averaged over
    a bin; with ``photons``, their number is Poisson distributed.

    Args:
        hu: (rows, columns, slices), below -1000 taken as air. affine: (4, 4) of these axes.
        photons: unattenuated photons per bin and view, None for no noise: the sinogram then states the most there are.
        seed: of the noise.
    """
    mm = float(np.linalg.norm(affine[:3, 1]))
    mu = torch.from_numpy(np.ascontiguousarray(np.moveaxis(attenuation(hu), -1, 0)))
    angles = np.arange(views) * (180.0 / views)
    bins = covering_bins(mu.shape[1:], 1.0, 1.0)
    transmitted = torch.exp(-line_integrals(mu, np.deg2rad(angles), bins, mm))
    if photons is not None:
        state = np.random.RandomState(seed)
        counts = state.poisson(photons * transmitted.numpy())
        transmitted = torch.from_numpy(np.maximum(counts, 1) / photons)
    sinogram = (-transmitted.log()).numpy().astype(np.float32)
    size = (hu.shape[0], hu.shape[1])
    stated = PHOTONS[1] if photons is None else photons
    return Sinogram(sinogram, angles, mm, size, np.asarray(affine, np.float64), stated, MU_WATER)


def line_integrals(mu: Tensor, angles: Array, bins: int, mm: float) -> Tensor:
    """(slices, rows, columns) in 1/mm -> (slices, views, bins), ``-ln`` of the mean intensity in each bin."""
    return torch.cat([_of_a_few(part, angles, bins, mm) for part in mu.split(TOGETHER)])


def _of_a_few(mu: Tensor, angles: Array, bins: int, mm: float) -> Tensor:
    rows, columns = mu.shape[1:]
    rays = (torch.arange(bins * RAYS_PER_BIN, dtype=mu.dtype) + 0.5) / RAYS_PER_BIN - bins / 2
    reach = math.hypot(rows, columns) / 2 + 1
    along = torch.arange(-reach, reach, 1 / STEPS_PER_PIXEL, dtype=mu.dtype)
    views = []
    for angle in angles.tolist():
        cos, sin = math.cos(angle), math.sin(angle)
        x = rays * cos - along[:, None] * sin
        y = rays * sin + along[:, None] * cos
        # In grid_sample's coordinates -1 and 1 are the outer edges of the picture.
        grid = torch.stack([2 * x / columns, 2 * y / rows], -1).expand(len(mu), -1, -1, -1)
        sampled = F.grid_sample(mu[:, None], grid, align_corners=False)[:, 0]
        integrals = sampled.sum(1) * (mm / STEPS_PER_PIXEL)
        views.append(-torch.exp(-integrals).view(len(mu), bins, RAYS_PER_BIN).mean(-1).log())
    return torch.stack(views, 1)
