"""How loud a sound is where it sounds, and what the training clips of a data set are like."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.modality import TrainingSet
from cmmulti.randomness import key
from modalities.audio.resampling import resampled
from modalities.audio.settings import SIGMA_DATA, AudioSettings

BLOCK = 0.02
"""Seconds of the blocks that levels are measured in."""
ACTIVE = 1e-4
"""Blocks of less than this share of the loudest one's power (-40 dB) are silence."""
MOST = 512
"""Training clips that are measured, evenly spread over the set."""


def active_level(wave: Tensor, known: Tensor, rate: int) -> float:
    """RMS of (n,) over its active blocks, those that ``known`` (n,) bool has whole where there are any; not of silence."""
    block = min(round(BLOCK * rate), len(wave))
    power = wave.square().unfold(0, block, block).mean(1)
    whole = known.unfold(0, block, block).all(1)
    power = power[whole] if bool(power[whole].any()) else power
    if not bool(power.any()):  # all there is lies after the last whole block
        power = wave.square().mean()[None]
    return float(power[power > ACTIVE * power.max()].mean().sqrt())


def open_numbers(settings: AudioSettings) -> AudioSettings:
    """Settings under which a training tensor is the log-mel itself: the scale with nothing taken off."""
    return settings.model_copy(update={"mean": 0.0, "std": SIGMA_DATA})


def measured(data: TrainingSet, settings: AudioSettings) -> AudioSettings:
    """``settings`` with the mean, standard deviation and level that they leave open.

    Args:
        data: training clips under :func:`open_numbers`; mean and deviation are those of augmented clips, the level is the
            median over the clips as stored.

    Raises:
        UserError: every clip that was looked at is silent.
    """
    values, levels = [], []
    for i in sorted({k * len(data) // min(len(data), MOST) for k in range(min(len(data), MOST))}):
        values.append(data.tensor(i, torch.Generator().manual_seed(key("audio statistics", i))))
        clip = data.item(i)
        wave = resampled(torch.from_numpy(clip.mid().astype(np.float32)), clip.rate, settings.mel.rate)
        if bool(wave.any()):
            levels.append(active_level(wave, torch.ones_like(wave, dtype=torch.bool), settings.mel.rate))
    x = torch.stack(values).double()
    if not levels or float(x.std()) <= 1e-6:
        raise UserError("data: every training clip that was looked at is silent; expected sound")
    found = {"mean": float(x.mean()), "std": float(x.std()), "level": min(float(np.median(levels)), 1.0)}
    return settings.model_copy(
        update={name: float(f"{value:.4g}") for name, value in found.items() if getattr(settings, name) is None}
    )
