"""Scale and noise level of k-space from the measurements alone, and windows on its centre."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cmmulti.operators.fourier import Fourier
from modalities.volume.item import Array
from modalities.volume.mri.kspace import KSpace
from modalities.volume.mri.masks import centre_box, centre_lines

SCALE_RATIO = {1.0: 0.985, 2.0: 1.065, 3.0: 1.082, 4.0: 1.095, 6.0: 1.127, 8.0: 1.133, 12.0: 1.138}
"""Acceleration -> 99.5th percentile of the non-zero voxels of the true magnitude over that of the zero-filled one's
foreground: means over training heads, for random and equispaced masks alike (single heads differ from them by 3 %)."""

REFERENCE_RATIO = {1.0: 1.0, 2.0: 1.036, 3.0: 1.049, 4.0: 1.056, 6.0: 1.081, 8.0: 1.087, 12.0: 1.09}
"""Acceleration -> 99th percentile of the true magnitude over that of the zero-filled one, likewise."""


def zero_filled(item: KSpace) -> Tensor:
    """(slices, ky, kx) float32 magnitude: the inverse transform with zeros where nothing was measured, root sum of squares
    over the coils."""
    images = Fourier(item.kspace.shape[1:]).adjoint(torch.from_numpy(item.kspace))
    return images.abs().square().sum(1).sqrt()


def estimated_percentile(item: KSpace, percentile: float = 99.5) -> float:
    """That percentile of the magnitude's non-zero voxels, the 99.5th to within a few per cent."""
    return _ratio(SCALE_RATIO, item) * _foreground(zero_filled(item), percentile)


def full_percentile(magnitude: Tensor, percentile: float) -> float:
    """That percentile of the non-zero voxels of an image without aliasing, (...)."""
    return SCALE_RATIO[1.0] * _foreground(magnitude, percentile)


def _foreground(magnitude: Tensor, percentile: float) -> float:
    """Of the voxels above a tenth of the tissue's level: below are air, noise or aliasing, and how much of them there is
    says nothing."""
    values = magnitude.numpy()
    return float(np.percentile(values[values > 0.1 * np.percentile(values, 99)], percentile))


def reference_level(item: KSpace) -> float:
    """The 99th percentile of the magnitude over all voxels: what ``--noise`` is relative to."""
    return _ratio(REFERENCE_RATIO, item) * float(np.percentile(zero_filled(item).numpy(), 99))


def estimated_noise(item: KSpace) -> float:
    """Standard deviation of the noise in k-space per real component; an upper bound where no air is in view. Of several
    coils, the root mean square."""
    return float(np.sqrt(np.mean([_noise_power(coil, item.mask) for coil in item.kspace.swapaxes(0, 1)]) / 2))


def _noise_power(kspace: Array, mask: Array) -> float:
    """Mean square of one coil's noise in k-space (slices, ky, kx), both components together. What is 0 exactly was not
    measured but filled up, and does not count."""
    return _of_columns(kspace, mask) if mask.ndim == 1 else _of_corner(kspace, mask)


def _of_columns(kspace: Array, mask: Array) -> float:
    """After a transform along the fully sampled ky, each picture row stands alone, whatever columns are missing: rows that
    cross nothing but air hold noise alone. Where there are none, the outermost corner of k-space bounds the noise."""
    columns = np.flatnonzero(mask)
    rows = Fourier((kspace.shape[1],), dims=1).adjoint(torch.from_numpy(kspace[:, :, columns]).mT.flatten(0, 1))
    power = rows.abs().square().view(len(kspace), len(columns), -1).mean(1).flatten().double().numpy()
    # The mean over the rows that no more than chance sets apart from the quietest twentieth.
    power = power[power > 0]
    if not power.size:
        return 0.0
    limit = np.quantile(power, 0.05) * (1 + 4 / np.sqrt(len(columns)))
    quiet = power[power <= limit].mean()
    lines = np.flatnonzero(kspace.any((0, 2)))
    outer = _outermost(columns, len(mask), max(4, len(columns) // 4))
    edge = _outermost(lines, kspace.shape[1], max(4, kspace.shape[1] // 8))
    corner = kspace[:, edge][..., outer]
    corner = corner[corner != 0]
    bound = np.mean(np.abs(corner) ** 2, dtype=np.float64) if corner.size else np.inf
    return float(min(quiet, bound))


def _of_corner(kspace: Array, mask: Array) -> float:
    """Of points, the mean over the twentieth of those measured that lie farthest out bounds the noise."""
    down, right = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in mask.shape)
    far = np.hypot(down[:, None], right)
    outer = kspace[:, mask & (far >= np.quantile(far[mask], 0.95))]
    outer = outer[outer != 0]
    return float(np.mean(np.abs(outer) ** 2, dtype=np.float64)) if outer.size else 0.0


def _outermost(indices: Array, n: int, count: int) -> Array:
    """The ``count`` of the indices that lie farthest from the zero frequency of ``n`` samples."""
    return indices[np.argsort(-np.abs(indices - n // 2), kind="stable")[:count]]


def centre_window(item: KSpace) -> Tensor:
    """(ky, kx) float32: a Hann window over the fully sampled centre, which keeps an image of it free of ringing. Of whole
    columns it has the same extent in 1/mm along kx and ky."""
    ny, nx = item.kspace.shape[-2:]
    if item.mask.ndim == 2:
        rows, columns = centre_box(item.mask)
        return hann(ny, _half(rows, ny))[:, None] * hann(nx, _half(columns, nx))
    half = _half(centre_lines(item.mask), nx)
    my, mx, _ = item.voxel_mm
    return hann(ny, half * (ny * my) / (nx * mx))[:, None] * hann(nx, half)


def _half(lines: slice, n: int) -> int:
    """How far a window on a centre's lines reaches from the zero frequency: to the first that is missing."""
    return min(n // 2 - lines.start, lines.stop - 1 - n // 2) + 1


def smooth_window(item: KSpace, mm: float) -> Tensor:
    """(ky, kx) float32: weights of spatial frequencies that fall to one half at a wavelength of ``mm``; all 1 for 0."""
    my, mx, _ = item.voxel_mm
    ny, nx = item.kspace.shape[-2:]
    if mm == 0:
        return torch.ones(ny, nx)
    return hann(ny, 2 * ny * my / mm)[:, None] * hann(nx, 2 * nx * mx / mm)


def hann(n: int, half_width: float) -> Tensor:
    """(n,) float32: 1 at ``n // 2``, falling to 0 at ``half_width`` samples from it (at least to its neighbours)."""
    distance = (torch.arange(n) - n // 2).abs() / max(half_width, 1.0)
    return torch.where(distance < 1, 0.5 + 0.5 * torch.cos(torch.pi * distance), 0.0)


def _ratio(table: dict[float, float], item: KSpace) -> float:
    """Interpolated in the acceleration that the mask has in fact; held at the ends."""
    acceleration = item.mask.size / int(item.mask.sum())
    return float(np.interp(acceleration, list(table), list(table.values())))
