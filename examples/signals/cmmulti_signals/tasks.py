"""What can be done with a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.operators.mask import Mask
from cmmulti.problems.base import Problem
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import SampleRandomness
from cmmulti_signals import files
from cmmulti_signals.signal import Signal

if TYPE_CHECKING:
    from cmmulti_signals.modality import SignalModality


class InpaintOptions(TaskOptions):
    start: float = Field(ge=0, description="first second of the gap, counted from the first sample")
    end: float = Field(gt=0, description="second at which the gap ends")


class Inpaint(Task):
    """Fill a gap; samples outside it come back bit for bit, and what lay in it has no influence."""

    name = "inpaint"
    verb = "edit"
    summary = "fill a gap given in seconds"
    Options = InpaintOptions

    def prepare(self, modality: SignalModality, source: Path | Signal, options: InpaintOptions, model: Model) -> Assignment:
        signal = files.load(source) if isinstance(source, Path) else source
        gap = signal.span(options.start, options.end)
        n = len(signal.samples)
        if not 0 <= gap.start < gap.stop <= n:
            raise UserError(
                f"start, end = {options.start:g}, {options.end:g}: expected 0 <= start < end <= {n / signal.rate:g} s"
            )
        known = np.ones(n, bool)
        known[gap] = False
        mask = torch.from_numpy(known)[None, None]
        x = torch.where(mask, modality.encode(signal), 0)

        def finish(sampled: Tensor, randomness: SampleRandomness) -> Signal:
            filled = modality.decode(sampled, signal).samples
            return signal.with_samples(np.where(known[:, None], signal.samples, filled))

        return Assignment(
            shape=tuple(x.shape),
            finish=finish,
            problem=Problem(Mask(mask, tuple(x.shape[1:])), x, 0.0, Replacement()),
            panels={"input": signal.with_samples(np.where(known[:, None], signal.samples, np.nan))},
            mark=~known,
            baselines={"straight line": lambda: straight(signal, known)},
        )


def straight(signal: Signal, known: np.ndarray) -> Signal:
    """The gap bridged by straight lines."""
    at = np.arange(len(known))
    columns = [np.interp(at, at[known], column[known]) for column in signal.samples.T]
    return signal.with_samples(np.where(known[:, None], signal.samples, np.stack(columns, 1)))
