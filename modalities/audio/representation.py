"""Waveforms at the model's rate <-> log-mel tensors in model space."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from cmmulti.randomness import SampleRandomness
from modalities.audio.settings import SIGMA_DATA, AudioSettings, MelSettings
from modalities.audio.torchaudio_guard import functional

MOMENTUM = 0.99
"""Of fast Griffin-Lim (Perraudin et al. 2013); above 1 it may not converge."""


@cache
def filters(mel: MelSettings) -> Tensor:
    """(n_fft // 2 + 1, mels) float32, torchaudio's triangular filters."""
    bins = mel.n_fft // 2 + 1
    bank: Tensor = functional().melscale_fbanks(
        bins, mel.fmin, mel.fmax, mel.mels, mel.rate, norm=mel.norm, mel_scale=mel.scale
    )
    return bank


@cache
def inverse_filters(mel: MelSettings) -> Tensor:
    """(mels, n_fft // 2 + 1) float32: the pseudo-inverse. Negative magnitudes are clipped by whoever uses it."""
    return torch.linalg.pinv(filters(mel).double()).float()


@cache
def window(mel: MelSettings) -> Tensor:
    """The analysis window, (win,) float32."""
    return torch.hann_window(mel.win, periodic=True)


def stft(wave: Tensor, mel: MelSettings) -> Tensor:
    """(B, n) -> complex (B, n_fft // 2 + 1, frames), centred, ends reflected."""
    return torch.stft(
        wave, mel.n_fft, mel.hop, mel.win, window(mel).to(wave), center=True, pad_mode="reflect", return_complex=True
    )


def istft(spectrum: Tensor, mel: MelSettings, samples: int) -> Tensor:
    """The least-squares inverse of :func:`stft`, (B, samples)."""
    weights = window(mel).to(spectrum.real)
    return torch.istft(spectrum, mel.n_fft, mel.hop, mel.win, weights, center=True, length=samples)


def log_mel(wave: Tensor, mel: MelSettings) -> Tensor:
    """(B, n) in [-1, 1] -> (B, mels, frames): natural logarithm of mel magnitudes (or powers), not below the floor."""
    magnitude = stft(wave, mel).abs()
    if mel.power == 2:
        magnitude = magnitude.square()
    return (filters(mel).to(magnitude).T @ magnitude).clamp_min(mel.floor).log()


def linear_magnitude(logarithm: Tensor, mel: MelSettings) -> Tensor:
    """(B, mels, frames) -> (B, n_fft // 2 + 1, frames): clipped pseudo-inverse."""
    values = (inverse_filters(mel).to(logarithm).T @ logarithm.exp()).clamp_min(0)
    return values.sqrt() if mel.power == 2 else values


def to_model(wave: Tensor, settings: AudioSettings) -> Tensor:
    """(B, samples) -> (B, 1, mels, frames) float32 in model space."""
    return standardised(log_mel(wave.float(), settings.mel), settings)[:, None]


def standardised(logarithm: Tensor, settings: AudioSettings) -> Tensor:
    """Log-mel values in model units, in which training clips have the standard deviation 0.5."""
    return (logarithm - settings.known("mean")) * (SIGMA_DATA / settings.known("std"))


def log_mel_of(x: Tensor, settings: AudioSettings) -> Tensor:
    """(B, 1, mels, frames) in model space -> (B, mels, frames) natural log-mel."""
    return x[:, 0].float() * (settings.known("std") / SIGMA_DATA) + settings.known("mean")


def audible(x: Tensor, settings: AudioSettings) -> Tensor:
    """A sample (B, 1, mels, frames) with nothing louder than any clip can be, before it is turned into sound.

    A poor model's may lie far above; its exponential would not be finite, and the clip silent.
    """
    return x.clamp(max=limits(settings)[1])


def limits(settings: AudioSettings) -> tuple[float, float]:
    """Smallest and largest value of a representation of samples in [-1, 1]: the floor, and a window full of ones."""
    mel = settings.mel
    highest = float(window(mel).sum())
    top = math.log(max(float(filters(mel).sum(0).max()) * highest**mel.power, 2 * mel.floor))
    low, high = standardised(torch.tensor([math.log(mel.floor), top], dtype=torch.float64), settings).tolist()
    return low, high


def griffin_lim(logarithm: Tensor, settings: AudioSettings, randomness: SampleRandomness | None) -> Tensor:
    """(B, mels, frames) natural log-mel -> (B, samples): fast Griffin-Lim from a random phase, one seed per sample.

    Without ``randomness`` sample i has the seed i.
    """
    mel = settings.mel
    streams = (
        SampleRandomness(range(len(logarithm)), "griffin-lim") if randomness is None else randomness.child("griffin-lim")
    )
    seeds = streams.uniform((len(logarithm), 1)).flatten()
    waves = []
    for spectrogram, seed in zip(linear_magnitude(logarithm.cpu(), mel), seeds.tolist(), strict=True):
        with torch.random.fork_rng(devices=[]):
            # torchaudio draws its first phase from the global generator.
            torch.default_generator.manual_seed(int(seed * 2**24))
            waves.append(
                functional().griffinlim(
                    spectrogram,
                    window(mel),
                    mel.n_fft,
                    mel.hop,
                    mel.win,
                    1.0,
                    settings.iterations,
                    MOMENTUM,
                    settings.samples,
                    True,
                )
            )
    return torch.stack(waves)
