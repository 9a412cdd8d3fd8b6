"""Change of rate by a long kaiser-windowed sinc."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd

import numpy as np
import scipy  # its parts load when they are used: most clips keep their rate
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalities.audio.torchaudio_guard import functional

WIDTH, ROLLOFF, BETA = 64, 0.9475937167399596, 14.769656459379492
"""The setting known as kaiser_best: 0 dB at 0.45 of the lower rate, -60 dB at 0.53."""
ODD = 1000
"""Ratios of larger numbers than this (44101 / 8000) go by another route: torchaudio's filters would not fit into memory."""


def resampled(wave: Tensor, old: int, new: int) -> Tensor:
    """(..., n) -> (..., ceil(n * new / old)), on the CPU; the same tensor where the rates are equal."""
    if old == new:
        return wave
    up, down = new // gcd(old, new), old // gcd(old, new)
    if max(up, down) > ODD:
        values = wave.numpy()
        taps = _filter(up, down).astype(values.dtype)
        result = torch.from_numpy(scipy.signal.resample_poly(values, up, down, axis=-1, window=taps))
    else:
        result = functional().resample(wave, old, new, WIDTH, ROLLOFF, "sinc_interp_kaiser", BETA)
    return result[..., : ceil(wave.shape[-1] * new / old)]


def reach(old: int, new: int) -> float:
    """Seconds to either side over which one sample spreads."""
    return WIDTH / (ROLLOFF * min(old, new)) if old != new else 0.0


@lru_cache(maxsize=4)
def _filter(up: int, down: int) -> NDArray[np.float64]:
    """The same low pass, sampled at ``up`` times the old rate."""
    half = round(WIDTH * max(up, down) / ROLLOFF)
    taps: NDArray[np.float64] = scipy.signal.firwin(2 * half + 1, ROLLOFF / max(up, down), window=("kaiser", BETA))
    return taps
