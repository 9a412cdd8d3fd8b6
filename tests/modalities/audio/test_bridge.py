"""Where an edit begins in a hole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cmmulti.pipeline import Pipeline
from cmmulti.problems.base import Noised
from modalities.audio import inpaint
from modalities.audio.bridge import bridged
from modalities.audio.clip import from_floats
from modalities.audio.files import load
from modalities.audio.measures import level_error
from modalities.audio.modality import AudioModality
from modalities.audio.representation import log_mel_of, standardised
from modalities.audio.tasks import Inpaint, InpaintOptions


def known_but(frames: int, *holes: tuple[int, int]) -> torch.Tensor:
    known = torch.ones(frames, dtype=torch.bool)
    for a, b in holes:
        known[a:b] = False
    return known


@pytest.mark.parametrize("power", [1, 2])
def test_it_is_a_straight_line_in_magnitude(modality: AudioModality, power: int) -> None:
    mel = modality.settings.mel.model_copy(update={"power": power})
    settings = modality.settings.model_copy(update={"mel": mel})
    magnitude = torch.full((1, 32, 20), 0.5)
    magnitude[..., :6] = 0.1
    x = standardised(power * magnitude.log(), settings)[:, None]
    result = bridged(x, known_but(20, (6, 9))[None], settings)
    line = (log_mel_of(result, settings) / power).exp()[0, 0]
    torch.testing.assert_close(line[5:10], torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))
    torch.testing.assert_close(result[..., :6], x[..., :6], rtol=0, atol=0)
    torch.testing.assert_close(result[..., 9:], x[..., 9:], rtol=0, atol=0)


def test_what_lies_in_the_hole_plays_no_part_and_ends_go_on(modality: AudioModality) -> None:
    x = torch.randn(2, 1, 32, 20, generator=torch.Generator().manual_seed(0))
    known = torch.stack([known_but(20, (0, 3), (8, 12), (17, 20)), known_but(20, (0, 20))])
    other = x.clone()
    other[0][..., ~known[0]] = 5
    result = bridged(x, known, modality.settings)
    torch.testing.assert_close(result[0], bridged(other, known, modality.settings)[0], rtol=0, atol=0)
    torch.testing.assert_close(result[0, 0, :, :3], x[0, 0, :, 3:4].expand(-1, 3))
    torch.testing.assert_close(result[0, 0, :, 17:], x[0, 0, :, 16:17].expand(-1, 3))
    torch.testing.assert_close(result[1], x[1], rtol=0, atol=0)


def test_an_edit_begins_as_loud_as_what_surrounds_the_hole(pipe: Pipeline) -> None:
    # Noise is what no prediction goes on with.
    clip = from_floats(0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    task = Inpaint().prepare(pipe.modality, clip, InpaintOptions(start=(0.4,), end=(0.6,)), pipe.model)
    assert isinstance(task.start, Noised)
    (window,) = inpaint.windows(clip, [(3200, 4800)], pipe.modality.settings)
    hole = inpaint.unknown_frames(window.known[None], pipe.modality.settings)[0]
    values = log_mel_of(task.start.clean, pipe.modality.settings)[0]
    assert abs(float(values[:, hole].mean() - values[:, ~hole].mean())) < 0.5


def test_the_shipped_model_fills_a_long_hole_about_as_loud_as_it_was() -> None:
    pipe = Pipeline.from_pretrained("spoken-digits")
    errors = []
    for path in sorted((Path(inpaint.__file__).parent / "inputs").glob("*.wav")):
        clip = load(path)
        power = np.convolve(clip.mid() ** 2, np.ones(round(0.2 * clip.rate)), "valid")
        start = int(power.argmax())
        hole = (start, start + round(0.2 * clip.rate))
        seconds = {"start": [hole[0] / clip.rate], "end": [hole[1] / clip.rate]}
        result = pipe.edit(clip, "inpaint", seconds, steps=2).items[0]
        errors.append(level_error(result.mid(), clip.mid(), [hole]))
    assert abs(np.median(errors)) < 6
