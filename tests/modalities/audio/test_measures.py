import warnings

import numpy as np
import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.evaluation.task import FEATURE_DISTANCE, figures
from cmmulti.pipeline import Pipeline
from modalities.audio.clip import from_floats
from modalities.audio.measures import level_error, log_spectral_distance, reference_metrics, seam_ratios


def test_seams_of_an_untouched_voice_are_ordinary(voice) -> None:
    x = voice(8000, 2.0)
    draws = np.random.default_rng(0)
    ratios = [r for s in draws.integers(100, 15000, 200) for r in seam_ratios(x, 8000, [(int(s), int(s) + 400)])]
    assert 0.4 < np.median(ratios) < 0.9


def test_a_jump_is_a_bad_seam(voice) -> None:
    x = voice(8000, 1.0)
    x[4000:4400] += 0.4
    assert min(seam_ratios(x, 8000, [(4000, 4400)])) > 3


def test_the_seam_is_the_step_across_the_boundary() -> None:
    x = np.zeros((1000, 1))
    x[::2] = 0.1  # every step is 0.1
    x[500:] += 1.0  # the step from 499 to 500 is 1.1
    (first, second) = seam_ratios(x, 1000, [(500, 600)])
    usual = np.sqrt((10 * 0.1**2 + 1.1**2) / 11)
    assert first == pytest.approx(1.1 / usual)
    assert second == pytest.approx(1.0)


def test_ends_of_the_clip_are_no_seams_and_channels_count_each() -> None:
    x = np.random.default_rng(0).standard_normal((1000, 2))
    assert len(seam_ratios(x, 8000, [(0, 100)])) == 2
    assert len(seam_ratios(x, 8000, [(100, 200), (300, 400)])) == 8
    assert seam_ratios(x, 8000, [(0, 1000)]) == []


def test_silence_around_a_seam_counts_as_ordinary() -> None:
    assert seam_ratios(np.zeros((100, 1)), 8000, [(40, 60)]) == [1.0, 1.0]


def test_a_gain_is_its_own_distance(voice) -> None:
    x = np.random.default_rng(0).standard_normal(8000) * 0.1
    assert log_spectral_distance(0.5 * x, x, 8000, [(2000, 4000)]) == pytest.approx(6.02, abs=0.01)
    assert level_error(0.5 * x, x, [(2000, 4000)]) == pytest.approx(-6.02, abs=0.01)


def test_only_the_holes_count() -> None:
    draws = np.random.default_rng(0)
    x = draws.standard_normal(8000) * 0.1
    y = x.copy()
    y[:1000] = draws.standard_normal(1000)
    assert log_spectral_distance(y, x, 8000, [(2000, 4000), (5000, 5010)]) == 0
    assert level_error(y, x, [(2000, 4000)]) == 0


def test_silence_has_a_finite_distance() -> None:
    x = np.random.default_rng(0).standard_normal(8000) * 0.1
    assert 20 < log_spectral_distance(np.zeros(8000), x, 8000, [(2000, 4000)]) < 80
    assert np.isfinite(log_spectral_distance(np.zeros(8000), np.zeros(8000), 8000, [(2000, 4000)]))


def test_metrics_of_another_length_are_none(voice) -> None:
    a, b = from_floats(voice(8000, 0.5), 8000), from_floats(voice(8000, 0.4), 8000)
    with pytest.raises(UserError, match="expected the result's"):
        reference_metrics(a, b, None)
    assert reference_metrics(a, a, [(800, 1600)]) == pytest.approx(
        {"lsd": 0, "level_error": 0, "seam": np.median(seam_ratios(a.floats(), 8000, [(800, 1600)]))}
    )


def test_a_side_that_was_left_empty_is_measured(voice) -> None:
    stereo = voice(8000, 1.0, 2)
    stereo[:, 1] *= -0.5
    span = (3200, 4800)
    middle = stereo.copy()
    middle[slice(*span)] = middle[slice(*span)].mean(1, keepdims=True)
    found = reference_metrics(from_floats(middle, 8000), from_floats(stereo, 8000), [span])
    assert found["lsd"] > 3
    assert found["level_error"] < -3


def test_equal_channels_are_measured_like_one(voice) -> None:
    truth = voice(8000, 1.0)
    mono = [from_floats(x, 8000) for x in (0.5 * truth, truth)]
    stereo = [from_floats(np.repeat(x, 2, 1), 8000) for x in (0.5 * truth, truth)]
    one, two = (reference_metrics(*pair, [(3200, 4800)]) for pair in (mono, stereo))
    assert one == pytest.approx(two)


def test_a_reference_of_other_channels_is_refused(voice) -> None:
    with pytest.raises(UserError, match=r"reference of .* with 2 channels; expected the result's .* with 1 channel"):
        reference_metrics(from_floats(voice(8000, 0.5), 8000), from_floats(voice(8000, 0.5, 2), 8000), None)


@pytest.mark.parametrize(("rate", "frames"), [(8000, 150), (8000, 230), (44100, 1000), (50, 40), (1, 3)])
def test_clips_shorter_than_a_spectrum_are_measured_in_silence(rate: int, frames: int) -> None:
    x = np.random.default_rng(0).standard_normal(frames) * 0.1
    hole = [(frames // 3, frames // 3 + max(frames // 4, 1))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert log_spectral_distance(0.5 * x, x, rate, hole) == pytest.approx(6.02, abs=0.01)


class Farness:
    """Stands for a classifier's features: the mean difference of two representations."""

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().flatten(1).mean(1)


def test_features_of_a_fill_are_taken_where_the_holes_are(pipe: Pipeline, voice) -> None:
    truth = from_floats(voice(16000, 6.0), 16000)
    spans = [(8000, 9600), (80_000, 81_600)]

    def distance(*holes: tuple[int, int]) -> float:
        samples = truth.floats()
        for start, end in holes:
            samples[start:end] = 0
        found = figures(pipe, from_floats(samples, 16000), truth, spans, Farness())
        return found[FEATURE_DISTANCE]

    one, other = distance(spans[0]), distance(spans[1])
    assert min(one, other) > 0.05
    assert distance(*spans) == pytest.approx(one + other)
    assert distance() == 0
