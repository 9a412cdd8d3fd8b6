"""The item of the audio adapter: a clip in the very numbers of its file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]
"""(frames, channels) int16, int32, float32 or float64."""
Floats = NDArray[np.float64]
Span = tuple[int, int]
"""A part ``[start, end)`` of a clip, such as a hole, in samples."""

BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
"""Bits per sample of the integer subtypes."""
LOSSLESS = (*BITS, "FLOAT", "DOUBLE")
"""Subtypes whose samples survive being written again."""


@dataclass(frozen=True)
class Clip:
    """A sound as it was stored.

    Args:
        samples: (frames, channels); integers keep the file's own (8-bit ones in the high byte of int16, 24-bit ones in the
            three high bytes of int32, as libsndfile has them). rate: samples per second.
        subtype, container: libsndfile's names (``PCM_16``, ``WAV``). path: where it came from.
    """

    samples: Samples
    rate: int
    subtype: str = "PCM_16"
    container: str = "WAV"
    path: Path | None = None

    @property
    def frames(self) -> int:
        return len(self.samples)

    @property
    def channels(self) -> int:
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    @property
    def lossless(self) -> bool:
        """Whether the container keeps samples as they are."""
        return self.subtype in LOSSLESS

    @property
    def depth(self) -> int | None:
        """Bits per sample, None for floats; what was decoded from a lossy file is kept in 24 where they hold it."""
        return None if self.samples.dtype.kind == "f" else BITS.get(self.subtype, 24)

    @property
    def name(self) -> str:
        """For messages."""
        return "clip" if self.path is None else str(self.path)

    def floats(self) -> Floats:
        """(frames, channels) with full scale at 1."""
        return self.samples.astype(np.float64) / full_scale(self.samples.dtype)

    def mid(self) -> Floats:
        """(frames,): the mean of the channels."""
        return self.floats().mean(1)

    def cut(self, start: int, end: int) -> Clip:
        """The part ``[start, end)`` in samples; it shares the clip's memory."""
        return replace(self, samples=self.samples[start:end])

    def with_spans(self, spans: Sequence[Span], values: Iterable[Floats]) -> Clip:
        """A copy in which samples ``[start, end)`` of each span are its values (frames, channels).

        They are rounded to the clip's own numbers.
        """
        samples = self.samples.copy()
        for (start, end), new in zip(spans, values, strict=True):
            samples[start:end] = stored(new, samples.dtype, self.depth)
        return replace(self, samples=samples)


def full_scale(dtype: np.dtype[Any]) -> float:
    """What 1.0 is in samples of ``dtype``: 32768 for int16, 2**31 for int32, 1 for floats."""
    return float(-np.iinfo(dtype).min) if np.issubdtype(dtype, np.integer) else 1.0


def stored(values: Floats, dtype: np.dtype[Any], depth: int | None) -> Samples:
    """Floats with full scale at 1 as samples of ``dtype``, rounded to ``depth`` bits and clipped; None for floats."""
    if depth is None:
        return values.astype(dtype)
    steps = np.clip(np.rint(values * 2 ** (depth - 1)), -(2 ** (depth - 1)), 2 ** (depth - 1) - 1)
    spare = 8 * dtype.itemsize - depth
    return (steps.astype(np.int64) << spare).astype(dtype)


def from_floats(values: NDArray[Any], rate: int) -> Clip:
    """A PCM16 WAV clip of (frames,) or (frames, channels) floats with full scale at 1; beyond it they are clipped."""
    array = np.asarray(values, np.float64)
    array = array[:, None] if array.ndim == 1 else array
    return Clip(stored(array, np.dtype(np.int16), 16), rate)
