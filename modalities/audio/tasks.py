"""What the audio adapter does besides generating."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Modality, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.noise import geometric
from cmmulti.operators.mask import Mask
from cmmulti.problems.base import Noised, Problem
from cmmulti.problems.replacement import Replacement
from modalities.audio import baselines, inpaint
from modalities.audio.clip import Clip, Span
from modalities.audio.files import output_format
from modalities.audio.settings import AudioSettings

FIRST, LAST = 0.6, 0.1
"""Noise levels of an edit, first and last: low enough for the network to hear what surrounds the hole and to keep the level
that the hole begins with. From pure noise the first estimate would know of neither, and would be far too quiet. Chosen on
40 validation clips of spoken digits, by spectral distance and level in holes of 50, 100 and 200 ms."""
BAND = 0.45
"""Of the model's rate: up to here the model fills, above it the extrapolation."""


class InpaintOptions(TaskOptions):
    start: tuple[float, ...] = Field(default=(), description="where a hole begins, seconds; once per hole")
    end: tuple[float, ...] = Field(default=(), description="where it ends, seconds; once per hole, in the same order")
    band_only: bool = Field(
        default=False, description="fill the model's band alone: nothing above it, nothing in the side channel"
    )

    @field_validator("start", "end", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (int, float, str)) else value


class Inpaint(Task):
    """Fill one or several spans of a clip of any length; what is outside comes back bit for bit."""

    name: ClassVar[str] = "inpaint"
    verb: ClassVar[Literal["edit", "reconstruct"]] = "edit"
    summary: ClassVar[str] = "fill spans of a clip (--start, --end in seconds), the rest untouched"
    Options = InpaintOptions

    def prepare(self, modality: Modality, source: Path | Clip, options: InpaintOptions, model: Model) -> Assignment:
        clip = source if isinstance(source, Clip) else modality.load(source)
        settings: AudioSettings = modality.settings
        spans = merged(samples_of(options.start, options.end, clip))
        _check(clip, spans, settings)
        if not spans:
            return Assignment(
                shape=(1, *modality.shape),
                finish=lambda x, randomness: clip,
                panels={"input": clip},
                notes=("no hole was given: the clip is as it was", *_file_notes(clip)),
            )
        found = inpaint.windows(clip, spans, settings)
        x, mask = inpaint.measured(found, settings)
        operator = Mask(mask, modality.shape)
        return Assignment(
            shape=tuple(x.shape),
            start=Noised(inpaint.begun(found, x, settings)),
            levels=lambda steps: geometric(steps, min(FIRST, model.sigma_max), LAST),
            finish=lambda result, randomness: inpaint.filled(clip, found, result, settings, randomness, options.band_only),
            problem=Problem(operator, operator(x), 0.0, Replacement(), modality.valid_range),
            panels={"input": clip},
            mark=tuple(spans),
            baselines=baselines.of(clip, spans),
            notes=(*_band_notes(clip, settings, options.band_only), *_file_notes(clip)),
        )


def samples_of(starts: Sequence[float], ends: Sequence[float], clip: Clip) -> list[Span]:
    """Spans in seconds -> ``[start, end)`` in samples, by rounding.

    Raises:
        UserError: a start without an end, a span that runs backwards, or one outside the clip.
    """
    if len(starts) != len(ends):
        raise UserError(f"start, end: expected as many ends as starts, got {len(starts)} starts and {len(ends)} ends")
    spans = []
    for start, end in zip(starts, ends, strict=True):
        # Also false for NaN.
        if not 0 <= start <= end <= clip.seconds + 0.5 / clip.rate:
            raise UserError(
                f"start {start:g}, end {end:g}: expected 0 <= start <= end <= {clip.seconds:.4f}, "
                f"the length of {clip.name} in seconds"
            )
        spans.append((round(start * clip.rate), min(round(end * clip.rate), clip.frames)))
    return spans


def merged(spans: Sequence[Span]) -> list[Span]:
    """Sorted spans, those that overlap or touch made one, empty ones left out."""
    result: list[Span] = []
    for start, end in sorted(s for s in spans if s[0] < s[1]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def _check(clip: Clip, spans: Sequence[Span], settings: AudioSettings) -> None:
    if clip.channels > 2:
        raise UserError(f"{clip.name}: {clip.channels} channels; expected at most 2")
    limit = settings.seconds - inpaint.CONTEXT
    for start, end in spans:
        length = (end - start) / clip.rate
        if length > limit + 0.5 / clip.rate:
            raise UserError(
                f"start {start / clip.rate:g}, end {end / clip.rate:g}: a hole of {length:.4g} s; expected at most "
                f"{limit:.4g} s, the model's window of {settings.seconds:.4g} s less {inpaint.CONTEXT} s of context"
            )
    if sum(end - start for start, end in spans) == clip.frames:
        raise UserError(f"{clip.name}: the holes cover all of its {clip.seconds:.4g} s; expected some sound to go by")


def _band_notes(clip: Clip, settings: AudioSettings, band_only: bool) -> tuple[str, ...]:
    rate = settings.mel.rate
    band = f"the model works at {rate} Hz and fills the band up to {BAND * rate:g} Hz"
    if clip.rate < rate:
        band = f"{band}; the clip's own rate of {clip.rate} Hz ends at {clip.rate / 2:g} Hz"
    rest = [f"the band above {BAND * rate:g} Hz"] * (clip.rate > rate) + ["the side channel"] * (clip.channels == 2)
    if not rest:
        return (band,)
    what = "left empty in the holes (--band-only)" if band_only else "continued by two-sided autoregressive extrapolation"
    return (f"{band}; {' and '.join(rest)}: {what}",)


def _file_notes(clip: Clip) -> tuple[str, ...]:
    if clip.lossless:
        return ()
    container, subtype = output_format(clip)
    return (
        f"the input is lossy ({clip.container}, {clip.subtype}): the result is written as {container} ({subtype}), "
        "outside the holes equal to the decoded samples, and never encoded again",
    )
