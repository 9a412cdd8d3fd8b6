"""The phase of MR images, and how smooth it is: told by k-space lines that are held out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cmmulti.operators.fourier import Fourier, Phase
from modalities.volume.item import Array
from modalities.volume.masks import centre_lines, default_calibration
from modalities.volume.sampled import TOGETHER, Sampled

ITERATIONS = 40
"""Of total variation, for the images that phases are taken from and judged by."""

EVERY = 4
"""One in so many lines outside the centre is held out."""

MARGIN = 1.02
"""How much more of the held-out lines a smoother phase may miss than the best one does: it leaves less of the noise."""


def phase_of(images: Tensor, window: Tensor) -> Tensor:
    """Radians (parts, 1, ky, kx) of complex images, of the spatial frequencies to which ``window`` gives weight."""
    F = Fourier(images.shape[1:])
    return F.adjoint(window * F(images)).angle()


def smoothness(sampled: Sampled, windows: Mapping[float, Tensor]) -> float:
    """Which of the windows, smoothest first, the phase is made of: the first that misses hardly more of the held-out lines
    than the best does; the first of all where no line can be held out.

    The phase comes from the complex image of the other lines. A real image under it, of the same lines, then says what the
    held-out ones should be. Judged on a few slices.
    """
    columns = torch.from_numpy(held_out(sampled.mask.numpy()))
    if not columns.any():
        return next(iter(windows))
    whole = sampled.some(TOGETHER)
    fewer, there = whole.without(columns), whole.y[..., columns]
    image = fewer.tv(iterations=ITERATIONS)
    missed = {}
    for name, window in windows.items():
        phase = phase_of(image, window)
        found = (whole.acquisition() @ Phase(phase))(fewer.tv(phase, iterations=ITERATIONS))
        missed[name] = float((found[..., columns] - there).abs().square().sum())
    return next(name for name, error in missed.items() if error <= MARGIN * min(missed.values()))


def held_out(mask: Array) -> Array:
    """(kx,) bool: columns to hold out, evenly spread over the measured ones outside the centre; there may be none."""
    lines, middle = centre_lines(mask), len(mask) // 2
    # A centre that has more lines than are usual can spare some.
    half = max(2, round(len(mask) * default_calibration(1) / 2))
    centre = range(max(lines.start, middle - half), min(lines.stop, middle + half))
    outer = [i for i in np.flatnonzero(mask) if i not in centre]
    out = np.zeros(len(mask), dtype=bool)
    out[outer[EVERY // 2 :: EVERY]] = True
    return out
