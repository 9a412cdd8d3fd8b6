"""Damaged and hostile files end in one line that names the file."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from cmmulti.errors import UserError
from modalities.image import files, png


def encoded(format: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    rows = np.arange(12 * 10 * 3, dtype=np.uint32).reshape(12, 10, 3)
    Image.fromarray((rows * 2654435761 >> 20).astype(np.uint8)).save(buffer, format, **how)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_header(data: bytes, width: int, height: int) -> bytes:
    """The PNG with another size in its header, and a right checksum."""
    return data[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + data[24:29]) + data[33:]


PNG, JPEG = encoded("PNG"), encoded("JPEG")


def refused(path, match):
    with pytest.raises(UserError, match=match) as caught:
        files.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message


def test_missing_empty_folder_and_other_formats(tmp_path):
    refused(tmp_path / "no.png", "cannot be read")
    refused(tmp_path, "a folder")
    (tmp_path / "empty.png").write_bytes(b"")
    refused(tmp_path / "empty.png", "the file is empty")
    (tmp_path / "text.png").write_text("hello, world")
    refused(tmp_path / "text.png", "neither PNG nor JPEG")


@pytest.mark.parametrize("data", [PNG, JPEG, encoded("JPEG", progressive=True)], ids=["png", "jpeg", "progressive"])
def test_every_truncation_is_refused(data):
    for end in range(1, len(data), 3):
        with pytest.raises(UserError):
            files.decode(data[:end], "x")


def test_every_flipped_bit_of_a_png_is_found():
    for at in range(0, len(PNG) * 8, 7):
        flipped = bytearray(PNG)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(UserError):
            files.decode(bytes(flipped), "x")


@pytest.mark.parametrize(
    ("width", "height", "told"), [(10, 13, "fewer"), (10, 11, "more"), (11, 12, "fewer"), (9, 12, "more")]
)
def test_a_png_header_that_lies_is_refused(width, height, told):
    with pytest.raises(UserError, match=f"promises {width} x {height} pixels and the file holds {told}"):
        files.decode(with_header(PNG, width, height), "x")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_header_that_promises_more_rows_is_refused(progressive):
    data = encoded("JPEG", progressive=progressive)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    with pytest.raises(UserError, match="promises 10 x 100 pixels and the file holds fewer"):
        files.decode(data[:at] + struct.pack(">H", 100) + data[at + 2 :], "x")


def test_a_bomb_is_refused_before_memory_is_asked_for():
    tracemalloc.start()
    with pytest.raises(UserError, match="100000 x 100000 pixels; expected at most"):
        files.decode(with_header(PNG, 100_000, 100_000), "x")
    at = JPEG.index(b"\xff\xc0") + 5
    with pytest.raises(UserError):
        files.decode(JPEG[:at] + struct.pack(">HH", 65_000, 65_000) + JPEG[at + 4 :], "x")
    # Compressed zeros without end behind an honest-looking header.
    bomb = PNG[:33] + chunk(b"IDAT", zlib.compress(bytes(20_000_000))) + chunk(b"IEND", b"")
    tracemalloc.reset_peak()
    with pytest.raises(UserError, match="holds more"):
        files.decode(bomb, "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_text_bomb_is_refused():
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(5_000_000)))
    with pytest.raises(UserError):
        files.decode(PNG[:33] + text + PNG[33:], "x")


def test_a_cmyk_jpeg_is_refused():
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(buffer, "JPEG")
    with pytest.raises(UserError, match="CMYK; expected grey or RGB"):
        files.decode(buffer.getvalue(), "x")


def test_a_huge_file_is_refused_unread(tmp_path):
    with open(tmp_path / "x.png", "wb") as file:
        file.truncate(files.LARGEST_FILE + 1)
    refused(tmp_path / "x.png", "expected a picture of at most")


@pytest.mark.parametrize(
    "data", [PNG, png.encode16(np.ones((5, 6, 3), np.uint16) * 777), JPEG], ids=["png", "png16", "jpeg"]
)
def test_fuzz(data):
    """500 mutations of a good file: a picture or a UserError, nothing else, and no large picture."""
    rng, refused = np.random.default_rng(0), 0
    for _ in range(500):
        broken = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(len(broken)))
            kind = rng.integers(4)
            if kind == 0:
                broken[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                broken[at] = int(rng.choice([0, 1, 127, 128, 255]))
            elif kind == 2:
                del broken[at : at + int(rng.integers(1, 20))]
            else:
                broken[at:at] = rng.bytes(int(rng.integers(1, 20)))
        if data is not JPEG:  # let some get past the checksums
            broken = repaired(bytes(broken)) if rng.random() < 0.5 else broken
        try:
            picture = files.decode(bytes(broken), "x")
        except UserError:
            refused += 1
        else:
            assert picture.array.size <= files.LARGEST_PICTURE * 3
    assert refused > 100


def repaired(data: bytes) -> bytes:
    """The PNG with right checksums in all parts that can still be walked."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        size = min(struct.unpack(">I", data[at : at + 4])[0], len(data) - at - 12)
        out += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + size])
        at += 12 + size
    return out
