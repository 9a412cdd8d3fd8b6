import math

import numpy as np
import pytest
import torch

from modalities.audio.resampling import resampled


def tone(rate: int, hertz: float, seconds: float = 0.5) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(round(rate * seconds), dtype=torch.float64) / rate)


@pytest.mark.parametrize(
    ("old", "new"), [(44100, 8000), (16000, 8000), (8000, 44100), (11025, 8000), (8000, 8000), (44101, 8000)]
)
def test_a_tone_in_the_band_stays_where_it_is(old: int, new: int) -> None:
    result = resampled(tone(old, 1000), old, new)
    assert len(result) == math.ceil(round(old * 0.5) * new / old)
    middle = slice(len(result) // 4, 3 * len(result) // 4)
    np.testing.assert_allclose(result[middle], tone(new, 1000, 0.6)[: len(result)][middle], atol=2e-3)


@pytest.mark.parametrize("old", [16000, 44100, 44101])
def test_a_tone_above_the_band_is_gone(old: int) -> None:
    result = resampled(tone(old, 4300), old, 8000)
    assert float(result[len(result) // 4 : 3 * len(result) // 4].abs().max()) < 2e-3
