import io

import numpy as np
import pytest
import soundfile as sf
from PIL import Image

from cmmulti.media import Player
from modalities.audio.clip import from_floats
from modalities.audio.modality import AudioModality


def pixels(player: object) -> np.ndarray:
    assert isinstance(player, Player)
    assert player.picture is not None
    return np.asarray(Image.open(io.BytesIO(player.picture.png)).convert("RGB")).astype(int)


def test_a_player_per_panel_plays_the_clip(modality: AudioModality, voice) -> None:
    panels = {"input": from_floats(voice(8000, 0.5), 8000), "result": from_floats(voice(16000, 0.5, 2), 16000)}
    players = modality.render(panels)
    assert [p.caption for p in players] == ["input", "result"]
    for player, clip in zip(players, panels.values(), strict=True):
        assert isinstance(player, Player)
        samples, rate = sf.read(io.BytesIO(player.wav), dtype="int16", always_2d=True)
        assert rate == clip.rate
        np.testing.assert_array_equal(samples, clip.samples)
        assert player.picture is not None
        assert "Spectrogram" in player.picture.alt


def test_colours_are_on_one_scale(modality: AudioModality, voice) -> None:
    x = voice(8000, 0.5)
    alone = modality.render({"quiet": from_floats(0.01 * x, 8000)})[0]
    beside = modality.render({"loud": from_floats(x, 8000), "quiet": from_floats(0.01 * x, 8000)})[1]
    assert pixels(beside).mean() < pixels(alone).mean() - 5


def test_low_frequencies_lie_at_the_bottom(modality: AudioModality) -> None:
    low = from_floats(0.5 * np.sin(2 * np.pi * 300 * np.arange(8000) / 8000), 8000)
    shown = pixels(modality.render({"low": low})[0])[:, 150:600]
    brightest = shown.sum((1, 2)).reshape(-1)
    inside = slice(20, shown.shape[0] - 60)
    assert np.argmax(brightest[inside]) > 0.6 * len(brightest[inside])


def test_holes_are_marked(modality: AudioModality, voice) -> None:
    clip = from_floats(voice(8000, 0.5), 8000)
    plain, marked = modality.render({"a": clip})[0], modality.render({"a": clip}, mark=[(1600, 2400)])[0]
    assert np.abs(pixels(plain) - pixels(marked)).max() > 100
    assert isinstance(marked, Player)
    assert marked.picture is not None
    assert "hole 0.20 to 0.30 s" in marked.picture.alt


@pytest.mark.parametrize("frames", [1, 7, 40])
def test_the_shortest_and_the_silent_are_drawn(modality: AudioModality, frames: int) -> None:
    modality.render({"short": from_floats(np.zeros(frames), 44100)})


def test_a_long_clip_is_compressed_without_loss(modality: AudioModality, voice) -> None:
    clip = from_floats(voice(8000, 11), 8000)
    (player,) = modality.render({"a": clip})
    assert isinstance(player, Player)
    assert player.mime == "audio/flac"
    np.testing.assert_array_equal(sf.read(io.BytesIO(player.wav), dtype="int16", always_2d=True)[0], clip.samples)


@pytest.mark.parametrize(("hole", "begins"), [(None, 0), ((20, 21), 17), ((1, 2), 0), ((58, 59), 30)])
def test_of_a_very_long_clip_the_surroundings_of_the_hole_are_played(
    modality: AudioModality, hole: tuple[int, int] | None, begins: int
) -> None:
    clip = from_floats(np.random.default_rng(0).uniform(-1, 1, 60 * 1000), 1000)
    mark = None if hole is None else [(hole[0] * 1000, hole[1] * 1000)]
    (player,) = modality.render({"a": clip}, mark=mark)
    assert isinstance(player, Player)
    assert player.caption == f"a (plays {begins}.0 to {begins + 30}.0 s of 60.0 s)"
    samples = sf.read(io.BytesIO(player.wav), dtype="int16", always_2d=True)[0]
    np.testing.assert_array_equal(samples, clip.samples[begins * 1000 : (begins + 30) * 1000])


@pytest.mark.parametrize(("channels", "rate", "seconds"), [(9, 100, 11), (1, 700_000, 10.1)])
def test_what_flac_cannot_hold_is_played_as_wav(modality: AudioModality, channels: int, rate: int, seconds: float) -> None:
    (player,) = modality.render({"x": from_floats(np.zeros((round(seconds * rate), channels)), rate)})
    assert isinstance(player, Player)
    assert player.mime == "audio/wav"
    assert sf.info(io.BytesIO(player.wav)).channels == channels


def test_of_many_channels_less_is_played(modality: AudioModality, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modalities.audio.render.PLAYED_BYTES", 16_000)
    (player,) = modality.render({"x": from_floats(np.zeros((1100, 10)), 100)})
    assert isinstance(player, Player)
    assert player.caption == "x (plays 0.0 to 8.0 s of 11.0 s)"
    assert sf.info(io.BytesIO(player.wav)).frames == 800


def test_panels_share_what_a_page_holds_and_play_the_same_part(
    modality: AudioModality, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modalities.audio.render.TOGETHER_BYTES", 48_000)
    clip = from_floats(np.zeros((2000, 10)), 100)
    players = modality.render(dict.fromkeys(("input", "result", "truth"), clip), mark=[(1000, 1100)])
    assert {player.caption.partition(" ")[2] for player in players} == {"(plays 8.0 to 16.0 s of 20.0 s)"}
    many = modality.render(dict.fromkeys(map(str, range(12)), clip))
    assert {player.caption.partition(" ")[2] for player in many} == {"(plays 0.0 to 5.0 s of 20.0 s)"}


def test_a_long_clip_has_a_close_up_of_its_hole(modality: AudioModality, voice) -> None:
    clip = from_floats(voice(8000, 3), 8000)
    assert len(pixels(modality.render({"a": clip}, mark=[(8000, 8800)])[0])) > 1.5 * len(
        pixels(modality.render({"a": clip})[0])
    )
