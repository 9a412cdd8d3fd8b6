"""Two-sided autoregressive extrapolation: a hole filled from the sound on both of its sides, at the file's own rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from modalities.audio.clip import Floats, Span

CONTEXT = 0.1
"""Seconds of sound on either side that the prediction is fitted to."""
ORDER = 0.02
"""Seconds that it looks back: two periods of a low voice."""
LONGEST = 4096
"""Most samples that it looks back: those seconds up to 192 kHz; time grows with the square of the rate."""


def burg(x: Floats, order: int) -> tuple[Floats, float]:
    """Prediction by Burg's method, always stable: ``x[t] ~ sum_k a[k] x[t - 1 - k]``.

    Returns ``a`` (order,) and the standard deviation of what it does not predict.
    """
    polynomial = np.ones(1)
    forward, backward = x[1:].copy(), x[:-1].copy()
    for _ in range(order):
        energy = forward @ forward + backward @ backward
        if energy <= 0:
            break
        reflection = -2 * (backward @ forward) / energy
        polynomial = np.append(polynomial, 0) + reflection * np.append(polynomial, 0)[::-1]
        forward, backward = forward[1:] + reflection * backward[1:], backward[:-1] + reflection * forward[:-1]
    error = (forward @ forward + backward @ backward) / max(2 * len(forward), 1)
    return -polynomial[1:], float(np.sqrt(error))


def _fitted(context: Floats, rate: int) -> tuple[Floats, float, Floats]:
    """Coefficients, error, and the context that they were fitted to."""
    context = context[-max(round(CONTEXT * rate), 1) :]
    coefficients, error = burg(context, min(round(ORDER * rate), LONGEST, len(context) // 3))
    return coefficients, error, context


def continued(context: Floats, length: int, rate: int) -> Floats:
    """The ``length`` samples after ``context``; silence where there is no context."""
    coefficients, _, context = _fitted(context, rate)
    order = len(coefficients)
    if order == 0:
        return np.zeros(length)
    # Free response of 1 / A(z): the state of its transposed form, given the last outputs, newest first.
    latest = context[::-1][:order]
    state = np.array([coefficients[k:] @ latest[: order - k] for k in range(order)])
    result, _ = scipy.signal.lfilter([1.0], np.concatenate([[1.0], -coefficients]), np.zeros(length), zi=state)
    return np.asarray(result, np.float64)


def hissed(context: Floats, noise: Floats, rate: int) -> Floats:
    """The noise that goes on after ``context``: what the prediction leaves out, coloured like it. ``noise`` is white."""
    coefficients, error, _ = _fitted(context, rate)
    return np.asarray(scipy.signal.lfilter([error], np.concatenate([[1.0], -coefficients]), noise), np.float64)


def _fades(length: int, before: Floats, after: Floats) -> tuple[Floats, Floats]:
    """Weights of the two sides, which sum to 1; all on one side where the other has nothing."""
    if not (len(before) and len(after)):
        return np.full(length, float(len(before) > 0)), np.full(length, float(len(before) == 0))
    weight = np.cos(np.pi / 2 * (np.arange(length) + 0.5) / length) ** 2
    return weight, 1 - weight


def extrapolated(x: Floats, spans: Sequence[Span], rate: int) -> Floats:
    """``x`` (frames,) with every span replaced by what both sides predict, crossfaded over the whole span.

    The samples in the spans are not looked at. Spans are sorted and do not touch.
    """
    result = x.copy()
    edges = [0, *(p for span in spans for p in span), len(x)]
    for i, (start, end) in enumerate(spans):
        before, after = x[edges[2 * i] : start], x[end : edges[2 * i + 3]]
        fade_out, fade_in = _fades(end - start, before, after)
        forward = continued(before, end - start, rate)
        backward = continued(after[::-1], end - start, rate)[::-1]
        result[start:end] = fade_out * forward + fade_in * backward
    return result


def texture(before: Floats, after: Floats, noise: Floats, rate: int) -> Floats:
    """The noisy part of a hole between ``before`` and ``after``, which a prediction alone lets die away.

    ``noise`` (2, length) white, of unit variance. It rises from 0 at either end as the prediction falls.
    """
    fade_out, fade_in = _fades(noise.shape[1], before, after)
    forward, backward = hissed(before, noise[0], rate), hissed(after[::-1], noise[1], rate)[::-1]
    # The two sides are independent: their powers add.
    return np.sqrt(fade_out) * forward + np.sqrt(fade_in) * backward
