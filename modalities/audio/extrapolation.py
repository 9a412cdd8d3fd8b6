"""Two-sided autoregressive extrapolation: a hole filled from the sound on both of its sides, at the file's own rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]
Spans = Sequence[tuple[int, int]]

CONTEXT = 0.1
"""Seconds of sound on either side that the prediction is fitted to."""
ORDER = 0.02
"""Seconds that it looks back: two periods of a low voice."""


def burg(x: Floats, order: int) -> Floats:
    """Prediction coefficients (order,) of Burg's method: ``x[t] ~ sum_k a[k] x[t - 1 - k]``; always stable."""
    polynomial = np.ones(1)
    forward, backward = x[1:].copy(), x[:-1].copy()
    for _ in range(order):
        energy = forward @ forward + backward @ backward
        if energy <= 0:
            break
        reflection = -2 * (backward @ forward) / energy
        polynomial = np.append(polynomial, 0) + reflection * np.append(polynomial, 0)[::-1]
        forward, backward = forward[1:] + reflection * backward[1:], backward[:-1] + reflection * forward[:-1]
    return -polynomial[1:]


def continued(context: Floats, length: int, rate: int) -> Floats:
    """The ``length`` samples after ``context``; silence where there is no context."""
    context = context[-max(round(CONTEXT * rate), 1) :]
    coefficients = burg(context, min(round(ORDER * rate), len(context) // 3))
    order = len(coefficients)
    if order == 0:
        return np.zeros(length)
    # Free response of 1 / A(z): the state of its transposed form, given the last outputs, newest first.
    latest = context[::-1][:order]
    state = np.array([coefficients[k:] @ latest[: order - k] for k in range(order)])
    result, _ = lfilter([1.0], np.concatenate([[1.0], -coefficients]), np.zeros(length), zi=state)
    return np.asarray(result, np.float64)


def extrapolated(x: Floats, spans: Spans, rate: int) -> Floats:
    """``x`` (frames,) with every span replaced by what both sides predict, crossfaded over the whole span.

    The samples in the spans are not looked at. Spans are sorted and do not touch.
    """
    result = x.copy()
    edges = [0, *(p for span in spans for p in span), len(x)]
    for i, (start, end) in enumerate(spans):
        before, after = x[edges[2 * i] : start], x[end : edges[2 * i + 3]]
        forward = continued(before, end - start, rate)
        backward = continued(after[::-1], end - start, rate)[::-1]
        weight = np.cos(np.pi / 2 * (np.arange(end - start) + 0.5) / (end - start)) ** 2
        weight = weight if len(before) and len(after) else np.full(end - start, float(len(before) > 0))
        result[start:end] = weight * forward + (1 - weight) * backward
    return result
