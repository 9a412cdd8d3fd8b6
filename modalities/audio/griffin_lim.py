"""Fast Griffin-Lim with known samples: the fill's phase is found beside the sound that surrounds it."""

from __future__ import annotations

import torch
from torch import Tensor

from modalities.audio.representation import MOMENTUM, istft, stft
from modalities.audio.settings import MelSettings


def with_known_samples(
    magnitude: Tensor, unknown_frames: Tensor, wave: Tensor, known: Tensor, mel: MelSettings, iterations: int
) -> Tensor:
    """Waveforms (B, samples) that keep the known samples and have the given magnitudes elsewhere.

    Args:
        magnitude: (B, bins, frames), used in unknown frames. unknown_frames: (B, frames) bool, windows that touch a hole.
        wave: (B, samples), the sound itself where ``known`` (B, samples) bool, elsewhere a guess whose phase begins.

    The known samples are put back after every inverse transform, so that the phases of the windows across a seam agree
    with the sound outside. Perraudin et al. 2013 (fast Griffin-Lim), with one more projection.
    """
    alpha = MOMENTUM / (1 + MOMENTUM)
    unknown = unknown_frames[:, None]
    spectrum = stft(wave, mel)
    aim, previous, result = spectrum, torch.zeros_like(spectrum), wave
    for _ in range(iterations):
        unit = aim / aim.abs().clamp_min(1e-16)
        result = istft(torch.where(unknown, magnitude * unit, spectrum), mel, wave.shape[-1])
        result = torch.where(known, wave, result)
        spectrum = stft(result, mel)
        aim, previous = spectrum - alpha * previous, spectrum
    return result
