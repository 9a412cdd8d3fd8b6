"""Single-coil k-space made from a magnitude image: optimistic, as real scans have coils, motion and rougher phase."""

from __future__ import annotations

import numpy as np
import torch

from cmmulti.operators.fourier import Fourier
from modalities.volume.item import Array
from modalities.volume.kspace import KSpace

NOTE = "simulated from magnitude images, optimistic"


def smooth_phase(shape: tuple[int, ...], seed: int) -> Array:
    """A smooth phase map in radians over a whole volume, as field inhomogeneity and timing errors leave it.

    A constant, linear ramps of up to a turn over the field of view and cosines of up to one cycle, 0.5 rad each.
    """
    state = np.random.RandomState(seed)
    grid = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in shape), indexing="ij", sparse=True)
    phase = np.full(shape, state.uniform(-np.pi, np.pi))
    for axis in grid:
        phase = phase + state.uniform(-2 * np.pi, 2 * np.pi) * axis
    for _ in range(4):
        waves = sum(state.uniform(-1, 1) * axis for axis in grid)
        phase = phase + 0.5 * np.cos(2 * np.pi * waves + state.uniform(0, 2 * np.pi))
    return phase


def simulate_kspace(values: Array, affine: Array, mask: Array, noise: float, seed: int) -> KSpace:
    """Measure magnitude images with one coil of unit sensitivity.

    Args:
        values: (ky, kx, slices) magnitudes. affine: (4, 4) of these axes. mask: (kx,) bool.
        noise: standard deviation of the complex Gaussian noise in k-space, per real component, relative to the 99th
            percentile of ``values``. seed: of phase and noise.
    """
    slices = np.moveaxis(values, -1, 0).astype(np.float64)
    image = torch.from_numpy(slices * np.exp(1j * smooth_phase(slices.shape, seed)))
    kspace = Fourier(slices.shape[1:])(image).numpy()
    state = np.random.RandomState(seed + 1 if seed < 2**32 - 1 else 0)
    std = noise * float(np.percentile(values, 99))
    kspace = kspace + std * (state.standard_normal(kspace.shape) + 1j * state.standard_normal(kspace.shape))
    return KSpace(np.where(mask, kspace, 0).astype(np.complex64), mask, np.asarray(affine, np.float64))
