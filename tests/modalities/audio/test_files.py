import contextlib
import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from cmmulti.errors import UserError
from modalities.audio.clip import Clip, from_floats, stored
from modalities.audio.files import LARGEST, load, save

KEPT = [
    ("a.wav", "PCM_U8"), ("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.wav", "PCM_32"), ("a.wav", "FLOAT"),
    ("a.wav", "DOUBLE"), ("a.flac", "PCM_S8"), ("a.flac", "PCM_16"), ("a.flac", "PCM_24"),
]  # fmt: skip


def bytes_of(path: Path) -> np.ndarray:
    with sf.SoundFile(path) as file:
        return file.read(dtype="float64" if file.subtype in ("FLOAT", "DOUBLE") else "int32")


@pytest.mark.parametrize(("name", "subtype"), KEPT)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_survive(tmp_path: Path, voice, name: str, subtype: str, channels: int) -> None:
    path = tmp_path / name
    sf.write(path, voice(8000, 0.2, channels), 8000, subtype=subtype)
    clip = load(path)
    again = save(clip, tmp_path / "again.wav")
    assert again.suffix == path.suffix
    assert (sf.info(again).subtype, sf.info(again).samplerate, sf.info(again).channels) == (subtype, 8000, channels)
    np.testing.assert_array_equal(bytes_of(again), bytes_of(path))


def test_all_16_bit_values_survive_the_way_through_floats() -> None:
    every = np.arange(-32768, 32768, dtype=np.int16)[:, None]
    clip = Clip(every, 8000)
    np.testing.assert_array_equal(stored(clip.floats(), every.dtype, 16), every)
    np.testing.assert_array_equal(clip.with_spans([(0, 65536)], [clip.floats()]).samples, every)


def test_24_bit_values_survive_the_way_through_floats() -> None:
    every = (np.random.default_rng(0).integers(-(2**23), 2**23, (1000, 1)) << 8).astype(np.int32)
    clip = Clip(every, 8000, "PCM_24")
    np.testing.assert_array_equal(clip.with_spans([(0, 1000)], [clip.floats()]).samples, every)


def test_too_loud_is_clipped_not_wrapped() -> None:
    assert from_floats(np.array([2.0, -2.0, 1.0]), 8000).samples[:, 0].tolist() == [32767, -32768, 32767]


@pytest.mark.parametrize(("name", "subtype"), [("a.ogg", "VORBIS"), ("a.mp3", "MPEG_LAYER_III")])
def test_lossy_sound_becomes_flac_equal_to_what_was_decoded(tmp_path: Path, voice, name: str, subtype: str) -> None:
    path = tmp_path / name
    sf.write(path, voice(16000, 0.5, 2), 16000, subtype=subtype)
    written = save(load(path), tmp_path / "b.wav")
    assert written.name == "b.flac"
    decoded, _ = sf.read(path, dtype="float64")
    np.testing.assert_allclose(sf.read(written, dtype="float64")[0], decoded, rtol=0, atol=2**-23)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_sound_that_passes_full_scale_is_not_clipped(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sf.write(path, np.where(np.arange(16000) % 80 < 40, 0.999, -0.999), 16000)
    decoded, _ = sf.read(path, dtype="float32", always_2d=True)
    assert np.abs(decoded).max() > 1.02
    clip = load(path)
    filled = clip.with_spans([(100, 200)], [np.full((100, 1), 0.25)])
    written = save(filled, tmp_path / "b.flac")
    assert (written.name, sf.info(written).subtype) == ("b.wav", "FLOAT")
    decoded[100:200] = 0.25
    # MP3 decoders do not give the same last bit twice.
    np.testing.assert_allclose(load(written).samples, decoded, rtol=0, atol=1e-6)


def wave(tmp_path: Path, **kinds: str) -> Path:
    path = tmp_path / "a.wav"
    sf.write(path, 0.3 * np.sin(np.arange(4000) * 0.05), 8000, **kinds)
    return path


def test_missing_empty_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none.wav")
    with pytest.raises(UserError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(UserError, match=r"empty\.wav: the file is empty"):
        load(tmp_path / "empty.wav")
    (tmp_path / "text.wav").write_text("not a sound at all")
    with pytest.raises(UserError, match=r"text\.wav: cannot be read as sound"):
        load(tmp_path / "text.wav")


def test_a_wav_without_samples_is_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros((0, 1)), 8000)
    with pytest.raises(UserError, match="holds no samples"):
        load(tmp_path / "a.wav")


def test_a_truncated_wav_is_refused_with_numbers(tmp_path: Path) -> None:
    path = wave(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"chunk 'data' promises 8000 bytes, 7900 are there"):
        load(path)


def test_a_riff_size_that_lies_is_refused(tmp_path: Path) -> None:
    path = wave(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[4:8] = struct.pack("<I", 2**31)
    path.write_bytes(raw)
    with pytest.raises(UserError, match="its header promises 2147483656 bytes"):
        load(path)


def test_a_flac_that_promises_more_than_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, 0.3 * np.sin(np.arange(4000) * 0.05), 8000)
    raw = bytearray(path.read_bytes())
    raw[21] |= 0x0F  # the highest bits of the number of samples
    path.write_bytes(raw)
    with pytest.raises(UserError, match=f"at most {LARGEST} samples"):
        load(path)


def test_a_flac_written_to_a_pipe_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, 0.3 * np.sin(np.arange(4000) * 0.05), 8000)
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xF0  # the number of samples and their MD5 sum, which are not known before the end
    raw[22:42] = bytes(20)
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"a\.flac: its header does not say how long it is"):
        load(path)


def test_a_flac_whose_samples_were_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, 0.3 * np.sin(np.arange(4000) * 0.05), 8000)
    raw = bytearray(path.read_bytes())
    raw[26] ^= 1  # the MD5 sum
    path.write_bytes(raw)
    with pytest.raises(UserError, match="MD5"):
        load(path)


def test_nan_and_infinity_are_refused(tmp_path: Path) -> None:
    values = np.zeros(100, np.float32)
    values[42] = np.inf
    sf.write(tmp_path / "a.wav", values, 8000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav: holds NaN or infinity \(sample 42\)"):
        load(tmp_path / "a.wav")


def test_floats_that_are_no_sound_are_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.full(100, 32767.0, np.float32), 8000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"holds a sample of 3\.28e\+04; expected floats with full scale at 1"):
        load(tmp_path / "a.wav")


def test_an_extra_chunk_with_an_odd_length_is_read_over(tmp_path: Path) -> None:
    path = wave(tmp_path)
    raw = path.read_bytes()
    raw = raw + b"LIST" + struct.pack("<I", 3) + b"abc"
    path.write_bytes(raw[:4] + struct.pack("<I", len(raw) - 8) + raw[8:])
    assert load(path).frames == 4000


def test_what_lies_after_the_riff_chunk_is_no_part_of_it(tmp_path: Path) -> None:
    path = wave(tmp_path)
    path.write_bytes(path.read_bytes() + b"TAG" + b"a title".ljust(125, b" "))
    assert load(path).frames == 4000


@pytest.mark.parametrize("between", [b"", b"LIST" + struct.pack("<I", 4) + b"INFO"])
def test_a_wav_written_to_a_pipe_goes_on_to_the_end_of_the_file(tmp_path: Path, between: bytes) -> None:
    path = wave(tmp_path)
    raw, unknown = path.read_bytes(), b"\xff\xff\xff\xff"
    assert raw[36:40] == b"data"
    path.write_bytes(raw[:4] + unknown + raw[8:36] + between + b"data" + unknown + raw[44:])
    assert load(path).frames == 4000


def test_a_riff_size_of_zero_is_read_over(tmp_path: Path) -> None:
    path = wave(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[:4] + bytes(4) + raw[8:])
    assert load(path).frames == 4000


def test_an_unwritable_place_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        save(from_floats(np.zeros(10), 8000), tmp_path / "none" / "a.wav")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_more_is_named(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=r"a\.wav: cannot be written \(File too large\)"):
            save(from_floats(np.zeros(10_000), 8000), tmp_path / "a.wav")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_decoder_keeps_its_doubts_to_itself(tmp_path: Path, voice, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp3"
    sf.write(path, voice(44100, 1), 44100)
    content = bytearray(path.read_bytes())
    content[2000:2400] = bytes(400)
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        load(path)
    os.write(2, b"ours")
    assert capfd.readouterr() == ("", "ours")
