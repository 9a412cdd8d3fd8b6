"""K-space made from a magnitude image: optimistic, as real scans have motion and rougher phase."""

from __future__ import annotations

import numpy as np
import torch

from cmmulti.operators.fourier import Fourier
from modalities.volume.item import Array
from modalities.volume.mri.kspace import KSpace

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


def birdcage(coils: int, rows: int, columns: int) -> Array:
    """(coils, rows, columns) complex: sensitivities of coils on a ring around the picture, with a root sum of squares of 1.

    Each falls with the distance from its coil, 1.5 half fields of view from the middle, and turns its phase around it, as
    the field across a straight conductor does. One coil sees everything alike.
    """
    if coils == 1:
        return np.ones((1, rows, columns), np.complex128)
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    down, right = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    away = (down - 1.5 * np.cos(angles)) + 1j * (right - 1.5 * np.sin(angles))
    maps = np.exp(-1j * angles) / away.conj()
    return maps / np.sqrt((np.abs(maps) ** 2).sum(0))


def simulate_kspace(values: Array, affine: Array, mask: Array, noise: float, seed: int, coils: int = 1) -> KSpace:
    """Measure magnitude images with coils whose root sum of squares they are.

    Args:
        values: (ky, kx, slices) magnitudes. affine: (4, 4) of these axes. mask: (kx,) bool.
        noise: standard deviation of the complex Gaussian noise in each coil's k-space, per real component, relative to the
            99th percentile of ``values``. seed: of phase and noise.
    """
    slices = np.moveaxis(values, -1, 0).astype(np.float64)
    image = slices * np.exp(1j * smooth_phase(slices.shape, seed))
    seen = torch.from_numpy(image[:, None] * birdcage(coils, *slices.shape[1:]))
    kspace = Fourier(seen.shape[1:])(seen).numpy()
    state = np.random.RandomState(seed + 1 if seed < 2**32 - 1 else 0)
    std = noise * float(np.percentile(values, 99))
    kspace = kspace + std * (state.standard_normal(kspace.shape) + 1j * state.standard_normal(kspace.shape))
    return KSpace(np.where(mask, kspace, 0).astype(np.complex64), mask, np.asarray(affine, np.float64))
