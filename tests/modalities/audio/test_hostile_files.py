"""Damaged files: refused in one line, or read; never a crash, a hang or a huge allocation."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from cmmulti.errors import UserError
from modalities.audio.files import load

CASES = 500
FILES = [("a.wav", "PCM_16"), ("b.wav", "FLOAT"), ("a.flac", "PCM_16"), ("a.ogg", "VORBIS"), ("a.mp3", "MPEG_LAYER_III")]


def damaged(good: bytes, draws: np.random.Generator) -> bytes:
    """A copy cut short, with bits flipped, bytes overwritten, or a piece twice; half of the time in the first 100 bytes."""
    raw = bytearray(good)
    kind = draws.integers(4)
    end = 100 if draws.random() < 0.5 else len(raw)
    place = int(draws.integers(min(end, len(raw))))
    if kind == 0:
        del raw[place:]
    elif kind == 1:
        for _ in range(int(draws.integers(1, 6))):
            raw[int(draws.integers(min(end, len(raw))))] ^= 1 << int(draws.integers(8))
    elif kind == 2:
        raw[place : place + 4] = draws.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80"])
    else:
        raw[place:place] = raw[place : place + int(draws.integers(1, 60))]
    return bytes(raw)


@pytest.mark.parametrize(("name", "subtype"), FILES)
def test_damaged_files_end_in_one_line_or_in_a_clip(tmp_path: Path, name: str, subtype: str) -> None:
    path = tmp_path / name
    tone = 0.4 * np.sin(np.arange(3000) * 0.07) * np.hanning(3000)
    sf.write(path, tone, 8000, subtype=subtype)
    good, draws = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(CASES):
        path.write_bytes(damaged(good, draws))
        with contextlib.suppress(UserError):
            clip = load(path)
            assert np.isfinite(clip.floats()).all()
            assert clip.samples.nbytes < 2**24
            continue
        refused += 1
    assert refused > CASES / 10


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.w64", "a.caf", "a.au"])
def test_every_truncation_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sf.write(path, 0.4 * np.sin(np.arange(3000) * 0.07), 8000)
    good = path.read_bytes()
    for length in range(0, len(good), 23):
        path.write_bytes(good[:length])
        with pytest.raises(UserError, match=name):
            load(path)


def test_an_au_file_of_unknown_length_goes_on_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.au"
    sf.write(path, 0.4 * np.sin(np.arange(3000) * 0.07), 8000)
    raw = bytearray(path.read_bytes())
    raw[8:12] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    assert load(path).frames == 3000


def test_every_flipped_bit_of_a_flac_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, 0.4 * np.sin(np.arange(2000) * 0.07), 8000)
    good, truth = path.read_bytes(), load(path).samples
    draws = np.random.default_rng(1)
    for _ in range(CASES):
        raw = bytearray(good)
        raw[int(draws.integers(42, len(raw)))] ^= 1 << int(draws.integers(8))
        path.write_bytes(raw)
        with contextlib.suppress(UserError):
            np.testing.assert_array_equal(load(path).samples, truth)
