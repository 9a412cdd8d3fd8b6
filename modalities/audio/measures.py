"""How good a fill is: log-spectral distance and level error in the hole, and the steps at its seams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from cmmulti.errors import UserError
from modalities.audio.clip import Clip, Floats, Span

FLOOR = 1e-6
"""Power below the reference's largest cell at which log-spectral distances stop: -60 dB."""
SEAM = 0.005
"""Seconds on either side of a seam whose steps are taken as normal."""
WINDOW = 0.032
"""Seconds of sound per spectrum; the hop is a quarter."""


def log_spectral_distance(result: Floats, truth: Floats, rate: int, spans: Sequence[Span]) -> float:
    """LSD in dB over the frames centred in a hole: mean over frames of the RMS over bins of the difference in dB.

    Args:
        result, truth: (frames,) or (frames, channels), over which the mean is taken, too. Cells more than 60 dB below the
            truth's loudest are raised to that floor. Around the clip there is silence.
    """
    size = max(4, 2 ** round(np.log2(WINDOW * rate)))
    hop = size // 4
    powers = [_power(x.T, size, hop) for x in (result, truth)]
    floor = max(float(powers[1].max()) * FLOOR, 1e-20)
    difference = np.diff([10 * np.log10(np.maximum(p, floor)) for p in powers], axis=0)[0]
    centres = np.arange(difference.shape[-1]) * hop
    inside = np.zeros(len(centres), bool)
    for start, end in spans:
        hit = (centres >= start) & (centres < end)
        # A hole shorter than a hop has no frame centred in it: the nearest one serves.
        if not hit.any():
            hit[np.argmin(np.abs(centres - (start + end) / 2))] = True
        inside |= hit
    return float(np.sqrt((difference[..., inside] ** 2).mean(-2)).mean())


def _power(x: Floats, size: int, hop: int) -> Floats:
    """(..., n) -> (..., bins, frames), frame t centred on sample ``t * hop``; scipy asks for one whole window."""
    x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, max(size - x.shape[-1], 0))])
    spectrum = scipy.signal.stft(x, nperseg=size, noverlap=size - hop, boundary="zeros", padded=True)[2]
    return np.asarray(np.abs(spectrum) ** 2)


def level_error(result: Floats, truth: Floats, spans: Sequence[Span]) -> float:
    """Level of the result minus that of the truth in the holes, dB; RMS below -100 dB of full scale counts as that.

    ``result``, ``truth``: (frames,), or (frames, channels), whose powers add.
    """
    hole = np.concatenate([np.arange(a, b) for a, b in spans])
    level = [20 * np.log10(max(float(np.sqrt((x[hole] ** 2).mean())), 1e-5)) for x in (result, truth)]
    return float(level[0] - level[1])


def seam_ratios(samples: Floats, rate: int, spans: Sequence[Span]) -> list[float]:
    """Step across each seam over the RMS of sample-to-sample steps within 5 ms on either side, per channel.

    ``samples`` (frames, channels). Ends of the clip are no seams; where the surroundings are constant, a seam without a
    step counts 1.
    """
    width = max(2, round(SEAM * rate))
    found = []
    for channel in samples.T:
        steps = np.diff(channel)
        for place in (p for span in spans for p in span if 0 < p < len(channel)):
            # steps[place - 1] is the one from the last sample before the seam to the first after it.
            near = steps[max(0, place - 1 - width) : place + width]
            usual = float(np.sqrt((near**2).mean()))
            found.append(abs(float(steps[place - 1])) / usual if usual > 0 else 1.0)
    return found


def reference_metrics(result: Clip, truth: Clip, spans: Sequence[Span] | None) -> dict[str, float]:
    """Figures of a result against the truth, in the holes (or over the whole clip): ``lsd``, ``level_error``, ``seam``.

    No SNR: beyond some 50 ms a good fill is another waveform.
    """
    of_result, of_truth = (
        f"{c.frames} samples at {c.rate} Hz with {c.channels} channel{'s' * (c.channels > 1)}" for c in (result, truth)
    )
    if of_result != of_truth:
        raise UserError(f"{truth.name}: a reference of {of_truth}; expected the result's {of_result}")
    where = list(spans) if spans else [(0, truth.frames)]
    figures = {
        "lsd": log_spectral_distance(result.floats(), truth.floats(), truth.rate, where),
        "level_error": level_error(result.floats(), truth.floats(), where),
    }
    seams = seam_ratios(result.floats(), result.rate, where)
    return figures | ({"seam": float(np.median(seams))} if seams else {})
