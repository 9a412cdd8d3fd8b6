"""Several answers to one task, voxel by voxel: where they agree and where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from modalities.volume.item import Volume


def spread(answers: Sequence[Volume]) -> dict[str, Volume]:
    """``mean`` and ``spread``, the standard deviation (n - 1), of two or more answers, in their unit, stored as float32.

    Welford's sums, so that no more than one answer is unpacked at a time.
    """
    mean = np.zeros(answers[0].shape)
    squares = np.zeros_like(mean)
    for count, answer in enumerate(answers, 1):
        values = answer.values().astype(np.float64)
        step = values - mean
        mean += step / count
        squares += step * (values - mean)
    deviation = np.sqrt(squares / (len(answers) - 1))
    apart = answers[0].with_values(deviation)
    if apart.header is not None:
        # The window that viewers take for the scan's own values would leave the deviation black.
        header = apart.header.copy()
        header["cal_min"] = header["cal_max"] = 0
        apart = replace(apart, header=header)
    return {"mean": answers[0].with_values(mean), "spread": apart}
