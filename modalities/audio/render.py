"""Clips as players with spectrograms."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import soundfile
import torch

from cmmulti.media import Media, Picture, Player
from modalities.audio.clip import Clip, Floats, Span, stored

DECIBELS = 80.0
"""Range of the colours below the loudest cell of all panels."""
WINDOW = 0.032
"""Seconds of sound per spectrum."""
COLUMNS = 1000
"""Most columns of a picture; longer clips take larger hops."""
AROUND = 0.4
"""Seconds shown on either side of a hole in its close-up."""
CLOSE_UP = 2.0
"""Clips longer than this, in seconds, have a close-up of their first hole."""

LONG = 10.0
"""Sound longer than this, in seconds, is compressed for the page, without loss."""
FLAC_CHANNELS, FLAC_RATE = 8, 655_350
"""Most channels and samples per second of that format."""
PLAYED = 30.0
"""Most seconds that a player has: a page holds all its sound, while the clips themselves lie beside it in full."""
PLAYED_BYTES = 32_000_000
"""Most that these are before compression: a page refuses a file of twice as much, which dozens of channels would be."""
TOGETHER_BYTES, FEWEST = 32_000_000, 5.0
"""The same of all panels of one answer, which play the same part, and the seconds that each has at least."""
BEFORE = 3.0
"""Seconds before the first hole at which such an excerpt begins."""


def render(panels: Mapping[str, Clip], mark: Sequence[Span] | None) -> list[Media]:
    """A player per panel; colours in dB below the loudest cell of all panels, so that levels can be compared."""
    spectra = {caption: _power(clip, 0, clip.frames) for caption, clip in panels.items()}
    loudest = max((float(s.max()) for s in spectra.values()), default=0.0) or 1.0
    return [
        _player(caption, clip, _picture(caption, clip, spectra[caption], loudest, mark or ()), mark or (), len(panels))
        for caption, clip in panels.items()
    ]


def _player(caption: str, clip: Clip, picture: Picture, spans: Sequence[Span], panels: int) -> Player:
    """16 bits, which every browser plays: WAV, or FLAC where long; of a very long one an excerpt, and it says so."""
    buffer = io.BytesIO()
    compressed = clip.seconds > LONG and clip.channels <= FLAC_CHANNELS and clip.rate <= FLAC_RATE
    container = "FLAC" if compressed else "WAV"
    frame = 2 * clip.channels
    share = max(TOGETHER_BYTES // (frame * panels), round(FEWEST * clip.rate))
    length = min(round(PLAYED * clip.rate), PLAYED_BYTES // frame, share)
    if clip.frames > length:
        before = min(round(BEFORE * clip.rate), length // 4)
        start = min(max((spans[0][0] if spans else 0) - before, 0), clip.frames - length)
        seconds = f"{start / clip.rate:.1f} to {(start + length) / clip.rate:.1f} s of {clip.seconds:.1f} s"
        caption = f"{caption} (plays {seconds})"
        clip = clip.cut(start, start + length)
    samples = stored(clip.floats(), np.dtype(np.int16), 16)
    soundfile.write(buffer, samples, clip.rate, subtype="PCM_16", format=container)
    return Player(buffer.getvalue(), caption, picture, f"audio/{container.lower()}")


def _power(clip: Clip, start: int, end: int) -> Floats:
    """(bins, frames) power of the mean of the channels."""
    size = max(32, 2 ** round(np.log2(WINDOW * clip.rate)))
    hop = max(size // 8, (end - start) // COLUMNS, 1)
    wave = torch.from_numpy(clip.cut(start, end).mid())
    window = torch.hann_window(size, dtype=wave.dtype)
    spectrum = torch.stft(wave[None], size, hop, window=window, pad_mode="constant", return_complex=True)[0]
    power: Floats = spectrum.abs().square().numpy()
    return power


def _picture(caption: str, clip: Clip, power: Floats, loudest: float, spans: Sequence[Span]) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    close = spans[0] if spans and clip.seconds > CLOSE_UP else None
    figure = Figure(figsize=(6.4, 2.6 if close is None else 4.8), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1 if close is None else 2, 1, squeeze=False)[:, 0]
    image = _draw(axes[0], power, loudest, (0, clip.seconds), clip, spans)
    if close is not None:
        start = max(0, close[0] - round(AROUND * clip.rate))
        end = min(clip.frames, close[1] + round(AROUND * clip.rate))
        _draw(axes[1], _power(clip, start, end), loudest, (start / clip.rate, end / clip.rate), clip, spans)
    figure.colorbar(image, ax=list(axes), label="dB re max", pad=0.02)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    holes = ", ".join(f"{a / clip.rate:.2f} to {b / clip.rate:.2f} s" for a, b in spans)
    alt = f"Spectrogram of {caption}: {clip.seconds:.2f} s, 0 to {clip.rate / 2:g} Hz" + (
        f"; hole {holes}" if holes else ""
    )
    return Picture(buffer.getvalue(), alt=alt)


def _draw(axes: Any, power: Floats, loudest: float, extent: tuple[float, float], clip: Clip, spans: Sequence[Span]) -> Any:
    decibels = 10 * np.log10(np.maximum(power / loudest, 10 ** (-DECIBELS / 10)))
    image = axes.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(*extent, 0, clip.rate / 2),
        vmin=-DECIBELS,
        vmax=0,
        cmap="magma",
    )
    for start, end in spans:
        axes.axvspan(start / clip.rate, end / clip.rate, facecolor="white", alpha=0.18, edgecolor="none")
        for edge in (start, end):
            axes.axvline(edge / clip.rate, color="cyan", linewidth=0.9)
    axes.set_xlim(*extent)
    axes.set_xlabel("seconds")
    axes.set_ylabel("Hz")
    return image
