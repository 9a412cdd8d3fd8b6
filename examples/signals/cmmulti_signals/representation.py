"""Signal <-> model tensor: millivolts over one fixed scale, so that nothing in a gap sets the scale of the rest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.operators.affine import Affine
from cmmulti_signals.settings import SignalSettings
from cmmulti_signals.signal import Signal


def encode(signal: Signal, settings: SignalSettings) -> Tensor:
    """(1, channels, n) float32.

    Raises:
        UserError: another rate or number of channels than the model's.
    """
    if abs(signal.rate - settings.rate) > 0.01 * settings.rate:
        raise UserError(f"signal of {signal.rate:g} Hz; expected the model's {settings.rate:g} Hz")
    if signal.samples.shape[1] != settings.channels:
        raise UserError(f"signal of {signal.samples.shape[1]} channels; expected the model's {settings.channels}")
    return torch.from_numpy((signal.samples.T / settings.scale).astype(np.float32))[None]


def decode(x: Tensor, settings: SignalSettings, like: Signal | None) -> Signal:
    """The signal of (1, channels, n); ``like`` lends names and start."""
    samples = x[0].double().numpy().T * settings.scale
    names = tuple(f"channel_{i + 1}_mV" for i in range(samples.shape[1]))
    return Signal(samples, settings.rate, names) if like is None else like.with_samples(samples)


def affine(signal: Signal, settings: SignalSettings) -> Affine:
    one = torch.ones(1, 1, 1)
    return Affine(settings.scale * one, 0 * one, (len(signal.samples),), (0,))
