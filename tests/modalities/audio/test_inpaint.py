import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from cmmulti.errors import UserError
from cmmulti.pipeline import Pipeline
from cmmulti.randomness import SampleRandomness
from modalities.audio import inpaint
from modalities.audio.clip import Clip, from_floats, stored
from modalities.audio.files import load
from modalities.audio.measures import level_error, seam_ratios
from modalities.audio.modality import AudioModality
from modalities.audio.representation import to_model
from modalities.audio.tasks import merged, samples_of


def edited(pipe: Pipeline, clip: Clip | Path, seed: int = 0, **options: Any) -> Clip:
    result: Clip = pipe.edit(clip, "inpaint", options, steps=1, seed=seed).items[0]
    return result


def outside(clip: Clip, *spans: tuple[int, int]) -> np.ndarray:
    return np.delete(clip.samples, np.concatenate([np.arange(a, b) for a, b in spans]), axis=0)


FORMATS = [
    ("a.wav", "PCM_16", 8000, 1), ("a.wav", "PCM_24", 16000, 2), ("a.wav", "PCM_32", 44100, 1),
    ("a.wav", "FLOAT", 44100, 2), ("a.flac", "PCM_16", 16000, 2), ("a.flac", "PCM_24", 44100, 1),
    ("a.wav", "PCM_U8", 6000, 1), ("a.wav", "PCM_16", 22051, 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "subtype", "rate", "channels"), FORMATS)
def test_samples_outside_the_hole_are_the_files_own(
    pipe: Pipeline, tmp_path: Path, voice, name: str, subtype: str, rate: int, channels: int
) -> None:
    path = tmp_path / name
    sf.write(path, voice(rate, 0.8, channels), rate, subtype=subtype)
    before = load(path)
    written = pipe.save(edited(pipe, path, start=[0.3], end=[0.4]), tmp_path / "out.wav")
    after = load(written)
    assert (after.rate, after.subtype, after.frames, after.channels) == (rate, subtype, before.frames, channels)
    hole = (round(0.3 * rate), round(0.4 * rate))
    np.testing.assert_array_equal(outside(after, hole), outside(before, hole))
    changed = np.flatnonzero((after.samples != before.samples).any(1))
    assert len(changed) > 0.9 * (hole[1] - hole[0]) or subtype == "PCM_U8"


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2)])
@pytest.mark.parametrize("other", ["silence", "loud"])
def test_what_lay_in_the_hole_never_matters(pipe: Pipeline, voice, rate: int, channels: int, other: str) -> None:
    clip = from_floats(voice(rate, 1.2, channels), rate)
    spans = {"start": [0.3, 0.5], "end": [0.45, 0.52]}
    samples = clip.samples.copy()
    for a, b in zip(spans["start"], spans["end"], strict=True):
        samples[round(a * rate) : round(b * rate)] = 0 if other == "silence" else 32767
    first, second = edited(pipe, clip, **spans), edited(pipe, replace(clip, samples=samples), **spans)
    np.testing.assert_array_equal(first.samples, second.samples)


def test_an_empty_edit_returns_the_input(pipe: Pipeline, voice) -> None:
    clip = from_floats(voice(44100, 0.3, 2), 44100)
    for options in ({}, {"start": [0.1], "end": [0.1]}):
        outcome = pipe.edit(clip, "inpaint", options, steps=1)
        np.testing.assert_array_equal(outcome.items[0].samples, clip.samples)
        assert "no hole" in outcome.notes[0]


def test_several_holes_in_a_long_clip_are_filled_each(pipe: Pipeline, voice) -> None:
    clip = from_floats(voice(8000, 5), 8000)
    holes = [(800, 1600), (16000, 17000), (38000, 40000)]
    silent = clip.with_spans(holes, [np.zeros((b - a, 1)) for a, b in holes])
    result = edited(pipe, silent, start=[a / 8000 for a, _ in holes], end=[b / 8000 for _, b in holes])
    np.testing.assert_array_equal(outside(result, *holes), outside(clip, *holes))
    for a, b in holes:
        assert np.abs(result.samples[a:b]).max() > 100


def test_seeds_give_other_fills(pipe: Pipeline, voice) -> None:
    clip = from_floats(voice(8000, 1), 8000)
    one, two = (edited(pipe, clip, seed=s, start=0.3, end=0.5) for s in (0, 1))
    assert (one.samples != two.samples).any()
    np.testing.assert_array_equal(one.samples, edited(pipe, clip, seed=0, start=0.3, end=0.5).samples)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"start": [0.1], "end": [1.5]}, r"end 1\.5: expected 0 <= start <= end <= 1\.0000"),
        ({"start": [-0.1], "end": [0.1]}, r"start -0\.1"),
        ({"start": [0.5], "end": [0.4]}, r"start 0\.5, end 0\.4"),
        ({"start": [float("nan")], "end": [0.4]}, "start"),
        ({"start": [0.1, 0.3], "end": [0.2]}, "2 starts and 1 ends"),
        ({"start": [0.1], "end": [0.45]}, r"a hole of 0\.35 s; expected at most 0\.3 s"),
        ({"start": [0.1, 0.25], "end": [0.25, 0.45]}, r"a hole of 0\.35 s"),
    ],
)
def test_spans_that_cannot_be_filled_are_refused(pipe: Pipeline, voice, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        edited(pipe, from_floats(voice(8000, 1), 8000), **options)


def test_more_than_two_channels_and_nothing_but_hole_are_refused(pipe: Pipeline, voice) -> None:
    with pytest.raises(UserError, match="3 channels; expected at most 2"):
        edited(pipe, from_floats(voice(8000, 1, 3), 8000), start=0.1, end=0.2)
    with pytest.raises(UserError, match=r"cover all of its 0\.2 s"):
        edited(pipe, from_floats(voice(8000, 0.2), 8000), start=0.0, end=0.2)


def test_the_longest_hole_is_taken(pipe: Pipeline, voice) -> None:
    edited(pipe, from_floats(voice(44100, 1), 44100), start=0.2, end=0.5)


def test_seconds_become_samples_by_rounding(voice) -> None:
    clip = from_floats(voice(44100, 1), 44100)
    assert samples_of([0.1, 0.00001], [0.2, 1.0], clip) == [(4410, 8820), (0, 44100)]
    assert merged([(5, 9), (1, 3), (3, 4), (8, 12), (20, 20)]) == [(1, 4), (5, 12)]


def test_notes_tell_band_and_file(pipe: Pipeline, tmp_path: Path, voice) -> None:
    path = tmp_path / "a.ogg"
    sf.write(path, voice(16000, 1, 2), 16000)
    outcome = pipe.edit(path, "inpaint", {"start": [0.3], "end": [0.4]}, steps=1)
    band, file = outcome.notes
    assert "fills the band up to 3600 Hz; the band above 3600 Hz and the side channel" in band
    assert "written as FLAC (PCM_24)" in file
    sf.write(tmp_path / "low.wav", voice(6000, 1, 2), 6000)
    (low,) = pipe.edit(tmp_path / "low.wav", "inpaint", {"start": [0.3], "end": [0.4]}, steps=1).notes
    assert "own rate of 6000 Hz ends at 3000 Hz; the side channel: continued by two-sided" in low
    written = load(pipe.save(outcome.items[0], tmp_path / "b.wav"))
    assert (written.container, written.frames) == ("FLAC", 16000)
    hole = (4800, 6400)
    np.testing.assert_array_equal(outside(written, hole), outside(load(path), hole))
    assert np.abs(written.samples[slice(*hole)]).max() > 2**22


def test_band_only_leaves_upper_band_and_side_empty(pipe: Pipeline, voice) -> None:
    clip = from_floats(voice(44100, 1, 2) + 0.1 * np.random.default_rng(0).standard_normal((44100, 2)), 44100)
    both = edited(pipe, clip, start=0.4, end=0.6).floats()[18500:25600]
    band = edited(pipe, clip, start=0.4, end=0.6, band_only=True).floats()[18500:25600]

    def above(x: np.ndarray) -> float:
        return float((np.abs(np.fft.rfft(x * np.hanning(len(x))))[round(6000 / 44100 * len(x)) :] ** 2).sum())

    assert np.abs(band[:, 0] - band[:, 1]).max() <= 2 / 32768
    assert np.abs(both[:, 0] - both[:, 1]).max() > 0.01
    assert above(band.mean(1)) < 1e-3 * above(both.mean(1))
    assert above(both.mean(1)) > 0.2 * above(clip.mid()[18500:25600])


def from_true_mel(clip: Clip, spans: list[tuple[int, int]], modality: AudioModality) -> Clip:
    found = inpaint.windows(clip, spans, modality.settings)
    x = to_model(torch.stack([inpaint.excerpt(clip, w, modality.settings) for w in found]), modality.settings)
    return inpaint.filled(clip, found, x, modality.settings, SampleRandomness(range(len(found))))


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 2)])
def test_seams_and_level_are_right_where_the_model_is(modality: AudioModality, voice, rate: int, channels: int) -> None:
    ratios: list[float] = []
    for seed in range(6):
        clip = from_floats(voice(rate, 1.5, channels, seed), rate)
        hole = [(round((0.5 + 0.03 * seed) * rate), round((0.6 + 0.03 * seed) * rate))]
        result = from_true_mel(clip, hole, modality)
        ratios += seam_ratios(result.floats(), rate, hole)
        assert abs(level_error(result.mid(), clip.mid(), hole)) < 2.5
    assert 0.4 < np.median(ratios) < 1.3
    assert max(ratios) < 3


def test_gain_brings_known_sound_to_the_training_level(modality: AudioModality, voice) -> None:
    quiet = Clip(stored(0.01 * voice(8000, 1), np.dtype(np.float32), None), 8000, "FLOAT")
    (window,) = inpaint.windows(quiet, [(3600, 4400)], modality.settings)
    assert float(window.wave[window.known].square().mean().sqrt()) == pytest.approx(modality.settings.level, rel=0.2)
    loud = replace(quiet, samples=quiet.samples * 50)
    (other,) = inpaint.windows(loud, [(3600, 4400)], modality.settings)
    torch.testing.assert_close(other.wave, window.wave, rtol=1e-4, atol=1e-6)


def test_every_frame_that_touches_a_hole_is_unknown(modality: AudioModality) -> None:
    known = torch.ones(1, 4000, dtype=torch.bool)
    known[0, 1000:1100] = False
    unknown = inpaint.unknown_frames(known, modality.settings)[0]
    # Frame t hears [64 t - 128, 64 t + 128).
    touching = [t for t in range(63) if 64 * t - 128 < 1100 and 64 * t + 128 > 1000]
    assert torch.nonzero(unknown).flatten().tolist() == touching


def test_silence_around_a_hole_is_no_trouble(pipe: Pipeline) -> None:
    result = edited(pipe, from_floats(np.zeros(8000), 8000), start=0.4, end=0.6)
    assert np.isfinite(result.floats()).all()


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.1), (0.01, 0.11), (2.9, 3.0)])
def test_a_hole_at_the_end_of_a_long_clip_lies_in_the_middle_of_the_window(
    modality: AudioModality, voice, start: float, end: float
) -> None:
    clip = from_floats(voice(16000, 3), 16000)
    span = (round(start * 16000), round(end * 16000))
    (window,) = inpaint.windows(clip, [span], modality.settings)
    hole = np.flatnonzero(~window.known.numpy())
    assert abs(hole.mean() - modality.settings.samples / 2) < 3, "the network fills the edge of its window badly"


def test_a_long_hole_at_the_end_of_a_clip_keeps_its_context(modality: AudioModality, voice) -> None:
    clip = from_floats(voice(8000, 3), 8000)
    longest = modality.settings.seconds - inpaint.CONTEXT
    for span in [(0, round(longest * 8000)), (24000 - round(longest * 8000), 24000)]:
        (window,) = inpaint.windows(clip, [span], modality.settings)
        assert int((window.known & (window.wave != 0)).sum()) >= 0.99 * inpaint.CONTEXT * 8000


def test_a_fill_at_the_start_of_a_clip_is_no_louder_than_the_clip() -> None:
    pipe = Pipeline.from_pretrained("spoken-digits")
    inputs = Path(inpaint.__file__).parent / "inputs"
    takes = [load(path).floats() for path in sorted(inputs.glob("*.wav"))]
    clip = from_floats(np.concatenate([take / np.abs(take).max() / 4 for take in takes]), 8000)
    for start, end in [(0, 0.1), (clip.seconds - 0.1, clip.seconds)]:
        filled = edited(pipe, clip, start=[start], end=[end]).floats()[round(start * 8000) : round(end * 8000)]
        assert np.abs(filled).max() < 0.3


@pytest.mark.parametrize("sound", ["below the last bit", "one click at the end of the window"])
def test_next_to_no_sound_has_a_finite_gain(modality: AudioModality, sound: str) -> None:
    rate = 8100  # a window of other than whole blocks
    settings = modality.settings.model_copy(update={"mel": modality.settings.mel.model_copy(update={"rate": rate})})
    samples = np.full((8000, 1), 1e-200)
    if sound.startswith("one"):
        samples[:] = 0
        samples[5990:] = 3.0
    (window,) = inpaint.windows(Clip(samples, rate, "DOUBLE"), [(3990, 4010)], settings)
    assert np.isfinite(window.gain)
    assert bool(window.wave.isfinite().all())


@pytest.mark.parametrize("channels", [1, 2])
def test_a_constant_offset_goes_on_in_the_hole(modality: AudioModality, voice, channels: int) -> None:
    offset = np.array([0.1, -0.06])[:channels]
    clip = from_floats(0.02 * voice(8000, 1.0, channels) + offset, 8000)
    result = from_true_mel(clip, [(3600, 4400)], modality).floats()[3600:4400]
    np.testing.assert_allclose(result.mean(0), offset, atol=0.003)
    np.testing.assert_allclose(result[300:500].mean(0), offset, atol=0.003)


def test_the_cost_of_a_hole_does_not_grow_with_the_clip(modality: AudioModality, voice) -> None:
    clip = from_floats(np.tile(voice(8000, 1.0), (600, 1)), 8000)
    spans = [(8000 * s, 8000 * s + 800) for s in (5, 300, 595)]
    first = inpaint.windows(clip, spans, modality.settings)  # what a first call sets up is no hole's
    values = torch.zeros(len(first), *modality.shape)
    tracemalloc.start()
    try:
        found = inpaint.windows(clip, spans, modality.settings)
        assert tracemalloc.get_traced_memory()[1] < 0.5 * clip.samples.nbytes
        tracemalloc.reset_peak()
        inpaint.filled(clip, found, values, modality.settings, SampleRandomness(range(len(found))))
        assert tracemalloc.get_traced_memory()[1] < 1.5 * clip.samples.nbytes
    finally:
        tracemalloc.stop()
