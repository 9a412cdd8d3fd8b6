"""Holes in a clip: the windows that the model sees, and the way back into the file's own samples.

The clip is never resampled as a whole. Around each hole the mean of the channels (mid) goes to the model's rate, is filled
there and comes back; the band that the model does not have, and half the difference of the channels (side), are continued
at the file's rate by autoregression. Only samples inside the hole are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmmulti.randomness import SampleRandomness
from modalities.audio.bridge import bridged
from modalities.audio.clip import Clip, Floats, Span
from modalities.audio.extrapolation import extrapolated, texture
from modalities.audio.griffin_lim import with_known_samples
from modalities.audio.level import active_level
from modalities.audio.representation import audible, filters, linear_magnitude, log_mel_of, stft, to_model
from modalities.audio.resampling import reach, resampled
from modalities.audio.settings import AudioSettings

CONTEXT = 0.2
"""Seconds of known sound that the model's window must hold beside a hole."""
SILENT = 1e-12
"""Sound of a lower peak (of full scale) is taken for silence; the last bit of 32 is at 5e-10."""
FADE = 0.01
"""Seconds inside each end of a hole over which the fill takes over from the extrapolation, which is better there."""


@dataclass(frozen=True)
class Window:
    """One hole as the model sees it.

    Args:
        span: the hole, in samples of the file. first: the file's sample where the excerpt begins.
        mid, side: (n,) the excerpt at the file's rate without its constant offset, all holes extrapolated; side None for
            mono. offsets: what was taken off mid and side, and goes on in the hole.
        bounds: where, in the excerpt, the sound around the hole begins and ends: at the next holes.
        low: (m,) mid at the model's rate. place: where the model's window begins in ``low``, negative in leading silence.
        wave: (samples,) the model's window, times ``gain``. known: (samples,) bool, what is no hole.
    """

    span: Span
    first: int
    mid: Floats
    side: Floats | None
    offsets: tuple[float, float]
    bounds: Span
    low: Tensor
    place: int
    wave: Tensor
    known: Tensor
    gain: float


def windows(clip: Clip, spans: Sequence[Span], settings: AudioSettings) -> list[Window]:
    """A window per hole. What lies in any hole plays no part. ``spans`` are sorted and do not touch."""
    return [_window(clip, span, spans, settings) for span in spans]


def _window(clip: Clip, span: Span, spans: Sequence[Span], settings: AudioSettings) -> Window:
    ratio = settings.mel.rate / clip.rate
    length = settings.samples / ratio
    begin = _begin(span, clip, length)
    margin = ceil(reach(clip.rate, settings.mel.rate) * clip.rate)
    first = max(0, floor(begin) - margin)
    last = min(clip.frames, ceil(begin + length) + margin)
    inside = [(max(a - first, 0), min(b, last) - first) for a, b in spans if b > first and a < last]
    channels = clip.cut(first, last).floats().T
    heard = np.ones(last - first, bool)
    for a, b in inside:
        heard[a:b] = False
    mid, mid_offset = _centred(channels.mean(0), heard)
    mid = extrapolated(mid, inside, clip.rate)
    side, side_offset = None, 0.0
    if clip.channels == 2:
        side, side_offset = _centred((channels[0] - channels[1]) / 2, heard)
        side = extrapolated(side, inside, clip.rate)
    low = resampled(torch.from_numpy(mid), clip.rate, settings.mel.rate)
    place = round((begin - first) * ratio)
    known_low = torch.ones(len(low), dtype=torch.bool)
    for a, b in inside:
        known_low[max(floor(a * ratio), 0) : ceil(b * ratio) + (ratio != 1)] = False
    wave, known = _cut(low, place, settings.samples, 0.0), _cut(known_low, place, settings.samples, True)
    gain = _gain(wave, known, settings)
    bounds = (
        max((b for _, b in inside if b <= span[0] - first), default=0),
        min((a for a, _ in inside if a >= span[1] - first), default=last - first),
    )
    offsets = (mid_offset, side_offset)
    return Window(span, first, mid, side, offsets, bounds, low, place, (wave * gain).float(), known, gain)


def _centred(channel: Floats, heard: NDArray[np.bool_]) -> tuple[Floats, float]:
    """A channel without its constant offset, which predictions would let die away, and the offset itself."""
    offset = float(channel[heard].mean())
    return channel - offset, offset


def _begin(span: Span, clip: Clip, length: float) -> float:
    """Where the model's window of ``length`` samples of the file begins.

    The hole lies in its middle, even where the clip ends nearby and silence takes up the rest, as it does around training
    clips: a network fills the very edge of its window many times too loud. ``CONTEXT`` seconds of sound stay in view.
    A clip shorter than the window lies in the middle of silence.
    """
    if clip.frames <= length:
        return (clip.frames - length) / 2
    filled_and_heard = span[1] - span[0] + CONTEXT * clip.rate
    first, last = min(filled_and_heard - length, 0.0), max(clip.frames - filled_and_heard, clip.frames - length)
    return min(max((span[0] + span[1] - length) / 2, first), last)


def excerpt(clip: Clip, window: Window, settings: AudioSettings) -> Tensor:
    """(samples,) the window as ``window.wave``, but with what lies in the holes: for the floor of the front end alone."""
    mid = clip.cut(window.first, window.first + len(window.mid)).mid() - window.offsets[0]
    low = resampled(torch.from_numpy(mid), clip.rate, settings.mel.rate)
    return (_cut(low, window.place, settings.samples, 0.0) * window.gain).float()


def _cut(x: Tensor, place: int, length: int, fill: float) -> Tensor:
    """``x[place : place + length]``, ``fill`` where ``x`` does not reach."""
    result = torch.full((length,), fill, dtype=x.dtype)
    part = x[max(place, 0) : place + length]
    result[max(-place, 0) :][: len(part)] = part
    return result


def _gain(wave: Tensor, known: Tensor, settings: AudioSettings) -> float:
    """Brings the known sound to the level of the training clips, its peak not above 1; 1 where it is silent."""
    heard = torch.where(known, wave, 0)
    peak = float(heard.abs().max())
    if peak < SILENT:
        return 1.0
    level = active_level(heard, known, settings.mel.rate)
    return min(settings.known("level") / level, 1 / peak)


def unknown_frames(known: Tensor, settings: AudioSettings) -> Tensor:
    """(B, samples) bool -> (B, frames) bool: frames whose analysis window touches a hole."""
    mel = settings.mel
    padded = torch.nn.functional.pad((~known).float(), (mel.n_fft // 2, mel.n_fft // 2), mode="reflect")
    return padded.unfold(-1, mel.n_fft, mel.hop).amax(-1) > 0


def measured(found: Sequence[Window], settings: AudioSettings) -> tuple[Tensor, Tensor]:
    """Representations (parts, 1, mels, frames) of the windows, and the mask (parts, 1, 1, frames) of frames that count."""
    x = to_model(torch.stack([w.wave for w in found]), settings)
    mask = ~unknown_frames(torch.stack([w.known for w in found]), settings)
    return x, mask[:, None, None]


def begun(found: Sequence[Window], x: Tensor, settings: AudioSettings) -> Tensor:
    """The representations ``x`` of the windows as an edit begins with them: extrapolated at the ends of each hole, where
    that is right, and bridged between. What lay in the holes plays no part.
    """
    known = torch.stack([w.known for w in found])
    # Frame t is centred on sample t * hop, the last one perhaps just past the end.
    centres = (torch.arange(x.shape[-1]) * settings.mel.hop).clamp_max(known.shape[-1] - 1)
    return bridged(x, known[:, centres], settings)


def filled(
    clip: Clip,
    found: Sequence[Window],
    x: Tensor,
    settings: AudioSettings,
    randomness: SampleRandomness,
    band_only: bool = False,
) -> Clip:
    """The clip with its holes filled as the model tensors ``x`` (parts, 1, mels, frames) say; the rest bit for bit.

    ``randomness`` (one seed per part) makes the noise of the band above the model's and of the side.
    """
    waves, known = torch.stack([w.wave for w in found]), torch.stack([w.known for w in found])
    unknown = unknown_frames(known, settings)
    # Bins in no mel band (the constant): what the extrapolation has there, else hum and offset would break off.
    heard_by_none = filters(settings.mel).sum(1) == 0
    magnitude = linear_magnitude(log_mel_of(audible(x.cpu(), settings), settings), settings.mel)
    magnitude[:, heard_by_none] = stft(waves, settings.mel)[:, heard_by_none].abs()
    heard = with_known_samples(magnitude, unknown, waves, known, settings.mel, settings.iterations)
    longest = max(w.span[1] - w.span[0] for w in found)
    noise = randomness.child("texture").normal((len(found), 2, 2, longest)).double().numpy()
    values = (
        _values(clip, window, wave, settings, None if band_only else white)
        for window, wave, white in zip(found, heard, noise, strict=True)
    )
    return clip.with_spans([w.span for w in found], values)


def _values(clip: Clip, window: Window, wave: Tensor, settings: AudioSettings, noise: Floats | None) -> Floats:
    """The samples of one hole, (length, channels): extrapolation, in which the model's band is replaced by its fill.

    ``noise`` (2, 2, length or more) white, for mid and side, or None to leave out what the model does not fill.
    """
    # Zero outside the holes, where the known samples were put back.
    change = _cut((wave - window.wave).double() / window.gain, -window.place, len(window.low), 0.0)
    start, end = (p - window.first for p in window.span)
    here = slice(start, end)
    ends = min(round(FADE * clip.rate), (end - start) // 4)
    ramp = np.sin(np.pi / 2 * (np.arange(ends) + 0.5) / max(ends, 1)) ** 2
    weight = np.concatenate([ramp, np.ones(end - start - 2 * ends), ramp[::-1]])
    extrapolation = window.mid[here]
    low = window.low + change if noise is None else change
    aim = resampled(low, settings.mel.rate, clip.rate).numpy()[here]
    if noise is not None:
        aim = aim + extrapolation + _above(_texture(window, window.mid, noise[0], clip.rate), here, clip, settings)
    mid = extrapolation + weight * (aim - extrapolation) + window.offsets[0]
    if window.side is None:
        return mid[:, None]
    side = window.side[here] * (1 - weight)
    if noise is not None:
        side = window.side[here] + _texture(window, window.side, noise[1], clip.rate)[here]
    side = side + window.offsets[1]
    return np.stack([mid + side, mid - side], 1)


def _texture(window: Window, channel: Floats, noise: Floats, rate: int) -> Floats:
    """(n,) the noise that goes on in the window's hole, 0 elsewhere."""
    start, end = (p - window.first for p in window.span)
    result = np.zeros(len(channel))
    before, after = channel[window.bounds[0] : start], channel[end : window.bounds[1]]
    result[start:end] = texture(before, after, noise[:, : end - start], rate)
    return result


def _above(x: Floats, here: slice, clip: Clip, settings: AudioSettings) -> Floats:
    """The part of ``x`` above the model's band, within the hole."""
    if clip.rate <= settings.mel.rate:
        return np.zeros(len(x[here]))
    low = resampled(torch.from_numpy(x), clip.rate, settings.mel.rate)
    return (x - resampled(low, settings.mel.rate, clip.rate).numpy()[: len(x)])[here]
