"""The phase of MR images, and how smooth it is: told by a part of k-space that is held out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cmmulti.operators.fourier import Fourier, Phase
from modalities.volume.item import Array
from modalities.volume.mri.masks import centre_box, centre_lines, default_calibration
from modalities.volume.mri.sampled import TOGETHER, Sampled

ITERATIONS = 40
"""Of total variation, for the images that phases are taken from and judged by."""

EVERY = 4
"""One in so many columns, or points, outside the centre is held out."""

MARGIN = 1.02
"""How much more of what is held out a smoother phase may miss than the best one does: it leaves less of the noise."""


def phase_of(images: Tensor, window: Tensor) -> Tensor:
    """Radians (parts, 1, ky, kx) of complex images, of the spatial frequencies to which ``window`` gives weight."""
    F = Fourier(images.shape[1:])
    return F.adjoint(window * F(images)).angle()


def smoothness(sampled: Sampled, windows: Mapping[float, Tensor]) -> float:
    """Which of the windows, smoothest first, the phase is made of: the first that misses hardly more of what is held out
    than the best does; the first of all where nothing can be.

    The phase comes from the complex image of the rest of k-space. A real image under it, of the same rest, then says what
    the part held out should be. Judged on a few slices.
    """
    out = torch.from_numpy(held_out(sampled.mask.numpy()))
    if not out.any():
        return next(iter(windows))
    whole = sampled.some(TOGETHER)
    fewer, there = whole.without(out), whole.y[..., out]
    image = fewer.tv(iterations=ITERATIONS)
    missed = {}
    for name, window in windows.items():
        phase = phase_of(image, window)
        found = (whole.acquisition() @ Phase(phase))(fewer.tv(phase, iterations=ITERATIONS))
        missed[name] = float((found[..., out] - there).abs().square().sum())
    return next(name for name, error in missed.items() if error <= MARGIN * min(missed.values()))


def held_out(mask: Array) -> Array:
    """What to hold out, bool of the mask's shape: measured columns (kx) outside the centre, evenly spread, or points
    (ky, kx), drawn at random; there may be none."""
    outer = mask.copy()
    # A centre that has more lines than are usual can spare some.
    centre = (centre_lines(mask),) if mask.ndim == 1 else centre_box(mask)
    outer[tuple(_at_most(lines, n) for lines, n in zip(centre, mask.shape, strict=True))] = False
    where = np.flatnonzero(outer)
    out = np.zeros(mask.size, dtype=bool)
    if mask.ndim == 1:
        out[where[EVERY // 2 :: EVERY]] = True
    else:
        out[np.random.default_rng(0).permutation(where)[: len(where) // EVERY]] = True
    return out.reshape(mask.shape)


def _at_most(lines: slice, n: int) -> slice:
    """Of a centre's lines those that are usual."""
    half = max(2, round(n * default_calibration(1) / 2))
    return slice(max(lines.start, n // 2 - half), min(lines.stop, n // 2 + half))
