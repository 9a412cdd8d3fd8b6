"""The orientation in EXIF data is applied once, to JPEG and PNG alike."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from modalities.image import files, png
from modalities.image.picture import Picture


def exif(orientation: int) -> bytes:
    made = Image.Exif()
    made[0x0112] = orientation
    return made.tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_exif(data: bytes, body: bytes, last: bool = False) -> bytes:
    """A PNG with an eXIf chunk before its pixels, or behind them."""
    at = data.rindex(b"IEND") - 4 if last else 33
    return data[:at] + chunk(b"eXIf", body.removeprefix(b"Exif\0\0")) + data[at:]


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """What Pillow makes of an 8-bit picture of that orientation."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", exif=exif(orientation))
    with Image.open(buffer) as image:
        return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", [*range(10), 65535])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_png_is_turned_as_pillow_does_and_once_alone(tmp_path, random_picture, orientation, dtype, channels, alpha):
    stored = random_picture(3, 5, channels, dtype, alpha)
    data = files.save(stored, tmp_path / "stored.png").read_bytes()
    (tmp_path / "turned.png").write_bytes(with_exif(data, exif(orientation)))
    picture = files.load(tmp_path / "turned.png")
    places = upright(np.arange(15, dtype=np.uint8).reshape(3, 5), orientation)
    assert np.array_equal(picture.array, stored.array.reshape(15, channels)[places])
    assert not alpha or np.array_equal(picture.alpha, stored.alpha.flatten()[places])
    again = files.load(files.save(picture, tmp_path / "again.png"))
    assert np.array_equal(again.array, picture.array)
    assert not alpha or np.array_equal(again.alpha, picture.alpha)


def test_a_palette_is_turned(tmp_path):
    rgb = np.tile(np.array([[[255, 0, 0], [0, 9, 0]]], np.uint8), (3, 1, 1))
    image = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "p.png", exif=exif(6))
    assert np.array_equal(files.load(tmp_path / "p.png").array, upright(rgb, 6))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_orientation_behind_the_pixels_counts(random_picture, dtype):
    stored = random_picture(3, 5, 3, dtype)
    data = encoded(stored)
    assert np.array_equal(files.decode(with_exif(data, exif(3), last=True), "x").array, stored.array[::-1, ::-1])


@pytest.mark.parametrize("body", [b"garbage", b"", b"MM\0*\0\0\0\x08\xff\xff\x01\x12", b"MM\0*\0\xff\xff\xff"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_unreadable_exif_data_turn_nothing(random_picture, body):
    stored = random_picture(3, 5, 3, np.uint8)
    assert np.array_equal(files.decode(with_exif(encoded(stored), body), "x").array, stored.array)


def encoded(picture: Picture) -> bytes:
    if picture.white > 255:
        return png.encode16(picture.array.astype(np.uint16))
    buffer = io.BytesIO()
    Image.fromarray(picture.array).save(buffer, "PNG")
    return buffer.getvalue()
