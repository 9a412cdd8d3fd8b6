"""Recordings as pictures: seconds to the right, millivolts upwards, all on one scale."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cmmulti.media import Media, Picture
from cmmulti_signals.signal import Signal


def render(panels: Mapping[str, Signal], mark: NDArray[np.bool_] | None = None) -> list[Media]:
    """A picture per panel; where ``mark`` is true the ground is shaded."""
    values = np.concatenate([s.samples.ravel() for s in panels.values()]) if panels else np.zeros(1)
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.05 * (high - low) or 1.0
    return [
        Picture(_png(signal, (low - margin, high + margin), mark), caption, f"{caption}: a signal over time", width=640)
        for caption, signal in panels.items()
    ]


def _png(signal: Signal, limits: tuple[float, float], mark: NDArray[np.bool_] | None) -> bytes:
    figure = Figure(figsize=(8, 2.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    times = signal.start + np.arange(len(signal.samples)) / signal.rate
    for name, column in zip(signal.channels, signal.samples.T, strict=True):
        axes.plot(times, column, linewidth=1, label=name)
    if mark is not None and len(mark) == len(times):
        axes.fill_between(times, *limits, where=mark, color="tab:orange", alpha=0.2, linewidth=0)
    axes.set(xlabel="seconds", ylabel="mV", ylim=limits, xlim=(times[0], times[-1]))
    if signal.samples.shape[1] > 1:
        axes.legend(fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
