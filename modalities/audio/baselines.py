"""Simpler ways to fill a hole, for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from modalities.audio.clip import Clip, Floats, Span
from modalities.audio.extrapolation import extrapolated


def of(clip: Clip, spans: Sequence[Span]) -> dict[str, Callable[[], Clip]]:
    """Silence, repetition of what came before, and two-sided autoregression. None looks into the holes."""
    return {
        "silence": lambda: silence(clip, spans),
        "repetition": lambda: repetition(clip, spans),
        "autoregression": lambda: autoregression(clip, spans),
    }


def silence(clip: Clip, spans: Sequence[Span]) -> Clip:
    """The clip with zeros in its holes."""
    return clip.with_spans(spans, (np.zeros((end - start, clip.channels)) for start, end in spans))


def repetition(clip: Clip, spans: Sequence[Span]) -> Clip:
    """As long a piece as the hole from before it (from after it at the start of the clip), again and again if need be."""
    values = silence(clip, spans).floats()
    edges = [0, *(p for span in spans for p in span), clip.frames]
    pieces: list[Floats] = []
    for i, (start, end) in enumerate(spans):
        before, after = values[edges[2 * i] : start][-(end - start) :], values[end : edges[2 * i + 3]][: end - start]
        source = before if len(before) else after
        # The last sample repeated is the one just before the sound goes on.
        times = -(-(end - start) // len(source))
        pieces.append(np.concatenate([source] * times)[: end - start])
    return clip.with_spans(spans, pieces)


def autoregression(clip: Clip, spans: Sequence[Span]) -> Clip:
    """Each channel predicted from both sides of its holes."""
    channels: list[Floats] = [extrapolated(c, spans, clip.rate) for c in clip.floats().T]
    values = np.stack(channels, 1)
    return clip.with_spans(spans, (values[start:end] for start, end in spans))
