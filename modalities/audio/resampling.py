"""Change of rate by a long kaiser-windowed sinc."""

from __future__ import annotations

from math import ceil

from torch import Tensor

from modalities.audio.torchaudio_guard import functional

WIDTH, ROLLOFF, BETA = 64, 0.9475937167399596, 14.769656459379492
"""The setting known as kaiser_best: 0 dB at 0.45 of the lower rate, -60 dB at 0.53."""


def resampled(wave: Tensor, old: int, new: int) -> Tensor:
    """(..., n) -> (..., ceil(n * new / old)); the same tensor where the rates are equal."""
    if old == new:
        return wave
    result: Tensor = functional().resample(wave, old, new, WIDTH, ROLLOFF, "sinc_interp_kaiser", BETA)
    return result[..., : ceil(wave.shape[-1] * new / old)]


def reach(old: int, new: int) -> float:
    """Seconds to either side over which one sample spreads."""
    return WIDTH / (ROLLOFF * min(old, new)) if old != new else 0.0
