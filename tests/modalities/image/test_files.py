"""Files: what is written is what is read, by us and by others."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from cmmulti.errors import UserError
from modalities.image import files, png
from modalities.image.picture import Picture


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_every_kind_of_picture_survives(tmp_path, random_picture, dtype, channels, alpha):
    picture = random_picture(5, 7, channels, dtype, alpha)
    again = files.load(files.save(picture, tmp_path / "x.png"))
    assert again.array.dtype == dtype
    assert np.array_equal(again.array, picture.array)
    assert (again.alpha is None) == (not alpha)
    assert not alpha or np.array_equal(again.alpha, picture.alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_second_reader_opens_what_we_write(tmp_path, random_picture, dtype, channels):
    picture = random_picture(5, 7, channels, dtype)
    with Image.open(files.save(picture, tmp_path / "x.png")) as image:
        image.load()
        assert image.size == (7, 5)
        if channels == 1 or dtype == np.uint8:
            assert np.array_equal(np.atleast_3d(np.asarray(image)), picture.array)
        else:  # Pillow keeps the high byte of 16-bit colours
            assert np.array_equal(np.asarray(image), picture.array >> 8)


def test_an_interlaced_16_bit_picture(random_picture):
    """Rows of an 8 x 8 picture in the order of Adam7, written by hand from the specification."""
    picture = random_picture(8, 8, 3, np.uint16)
    raw = b""
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for row in picture.array[y::dy, x::dx]:
            raw += b"\0" + row.astype(">u2").tobytes()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 1)), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    data = png.SIGNATURE
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    assert np.array_equal(files.decode(data, "x").array, picture.array)


def test_palette_and_bilevel_pictures_become_colours_and_greys(tmp_path):
    rgb = Image.fromarray(np.tile(np.array([[[255, 0, 0], [0, 9, 0]]], np.uint8), (4, 4, 1)))
    rgb.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    assert np.array_equal(files.load(tmp_path / "p.png").array, np.asarray(rgb))
    Image.fromarray(np.eye(5, dtype=bool)).save(tmp_path / "1.png")
    assert np.array_equal(files.load(tmp_path / "1.png").array[..., 0], np.eye(5, dtype=np.uint8) * 255)


def test_a_transparent_colour_becomes_alpha(tmp_path):
    Image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "t.png", transparency=(1, 2, 3))
    picture = files.load(tmp_path / "t.png")
    assert picture.channels == 3
    assert picture.alpha is not None
    assert not picture.alpha.any()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(
    ("depth", "row", "values"),
    [
        (1, b"\x50", [0, 255, 0, 255]),
        (2, b"\x1b", [0, 85, 170, 255]),
        (4, b"\x01\x23", [0, 17, 34, 51]),
        (8, bytes([5, 6, 7, 8]), [5, 6, 7, 8]),
        (16, struct.pack(">4H", 1, 256, 257, 65535), [1, 256, 257, 65535]),
    ],
)
def test_a_transparent_grey_of_any_depth_becomes_alpha(depth, row, values):
    """The key is in the stored samples, of which a row has four; the alpha is that of the format's largest value."""
    for place, value in enumerate(values):
        key = value // ((65535 if depth == 16 else 255) // (2**depth - 1)) if depth != 8 else value
        parts = [
            chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, depth, 0, 0, 0, 0)),
            chunk(b"tRNS", struct.pack(">H", key)),
            chunk(b"IDAT", zlib.compress(b"\0" + row)),
            chunk(b"IEND", b""),
        ]
        picture = files.decode(png.SIGNATURE + b"".join(parts), "x")
        assert picture.array[0, :, 0].tolist() == values
        assert picture.alpha is not None
        assert picture.alpha.dtype == picture.array.dtype
        expected = [0 if v == value else picture.white for v in values]
        assert picture.alpha[0].tolist() == expected, (depth, place)


def test_a_transparent_colour_of_16_bits_is_compared_whole(random_picture):
    """Two colours that differ in their low bytes alone are not the same."""
    array = np.array([[[256, 512, 768], [256, 512, 769], [0, 512, 768]]], np.uint16)
    data = png.encode16(array)
    picture = files.decode(data[:33] + chunk(b"tRNS", struct.pack(">3H", 256, 512, 768)) + data[33:], "x")
    assert np.array_equal(picture.array, array)
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 65535, 65535]]


def test_the_orientation_of_a_camera_is_applied(tmp_path):
    image = Image.fromarray(np.arange(8 * 16, dtype=np.uint8).reshape(8, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    image.save(tmp_path / "x.jpg", exif=exif, quality=100)
    picture = files.load(tmp_path / "x.jpg")
    assert picture.size == (16, 8)
    assert picture.format == "JPEG"
    assert picture.array[0, -1, 0] < 10 < picture.array[-1, 0, 0]


def test_the_orientation_is_applied_whatever_else_the_camera_wrote(tmp_path):
    image = Image.fromarray(np.arange(8 * 16, dtype=np.uint8).reshape(8, 16))
    exif = Image.Exif()
    exif[0x0112], exif[0x0132] = 6, "2020"
    image.save(tmp_path / "x.jpg", exif=exif, quality=100)
    data = (tmp_path / "x.jpg").read_bytes()
    at = data.index(b"\x01\x32\x00\x02")  # DateTime as a float in place of text, which no encoder writes again
    (tmp_path / "x.jpg").write_bytes(data[: at + 2] + b"\x00\x0b\x00\x00\x00\x01" + data[at + 8 :])
    assert files.load(tmp_path / "x.jpg").size == (16, 8)


@pytest.mark.parametrize("orientation", [*range(10), 65535])
def test_every_orientation_is_that_of_pillow(orientation):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3) * 5).save(buffer, "JPEG", exif=exif)
    with Image.open(buffer) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(files.decode(buffer.getvalue(), "x").array, expected)


def test_a_jpeg_is_saved_as_png_and_keeps_its_decoded_pixels(tmp_path):
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(tmp_path / "x.jpg")
    picture = files.load(tmp_path / "x.jpg")
    path = files.save(picture, tmp_path / "y.jpg")
    assert path.name == "y.png"
    assert np.array_equal(files.load(path).array, picture.array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_colour_profile_is_kept(tmp_path, random_picture, dtype):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    array = random_picture(4, 4, 3, dtype).array
    assert files.load(files.save(Picture(array, profile=profile), tmp_path / "x.png")).profile == profile


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("channels", "colours"), [(1, b"RGB "), (3, b"GRAY"), (3, b"CMYK"), (1, b"")])
def test_a_profile_of_other_colours_is_left_out(tmp_path, random_picture, dtype, channels, colours):
    """PNG allows grey pictures a grey profile and coloured ones an RGB profile, no other."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:16] + colours + profile[20:] if colours else b"short"
    picture = Picture(random_picture(4, 4, channels, dtype).array, profile=profile)
    with Image.open(files.save(picture, tmp_path / "x.png")) as image:
        assert "icc_profile" not in image.info
    assert np.array_equal(files.load(tmp_path / "x.png").array, picture.array)


def test_a_grey_profile_stays_with_a_grey_picture(tmp_path, random_picture):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:16] + b"GRAY" + profile[20:]
    picture = Picture(random_picture(4, 4, 1).array, profile=profile)
    assert files.load(files.save(picture, tmp_path / "x.png")).profile == profile


def test_saving_to_a_place_that_is_a_file_is_told(tmp_path, random_picture):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file/x\.png: cannot be written"):
        files.save(random_picture(4, 4), tmp_path / "file" / "x.png")


def test_a_failed_save_leaves_the_former_file(tmp_path, random_picture, monkeypatch):
    path = files.save(random_picture(4, 4), tmp_path / "x.png")
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        files.save(random_picture(4, 4, seed=1), path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(UserError, match="expected a picture"):
        Picture(np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match="expected a picture"):
        Picture(np.zeros((4, 4, 3), np.float32))


def test_bytes_of_pillow_are_bytes_of_ours():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(buffer, "PNG")
    png.check(buffer.getvalue())
