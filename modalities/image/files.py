"""Disk <-> picture: PNG and JPEG, grey and RGB, 8 and 16 bit; nothing lost, nothing half-written."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmmulti.errors import UserError
from cmmulti.files import writing
from modalities.image import png
from modalities.image.orientation import UNREADABLE, upright
from modalities.image.picture import Picture

SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST_FILE = 512 * 2**20
LARGEST_PICTURE = 64_000_000
"""Most bytes of a file and most pixels of a picture that are read: beyond, a header is taken for a trap."""

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# Random bytes without 255, which would begin a marker.
_FURTHER = bytes(np.random.default_rng(0).integers(0, 255, 1024, dtype=np.uint8))
# High and low byte of big-endian samples, by colour type, in Pillow's names for what a decoder delivers.
_RAW16 = {2: ("RGB;16B", "RGB;16L"), 6: ("RGBA;16B", "RGBA;16L")}


def load(path: Path) -> Picture:
    """Read a PNG or JPEG file whole.

    Palette pictures become RGB, pictures of 1 to 4 bits 8-bit grey; the orientation that the file states is applied.

    Raises:
        UserError: no such file, empty, not PNG or JPEG, damaged, cut off, too large, or CMYK.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: a folder, device or pipe; expected a PNG or JPEG file")
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise UserError(f"{path}: {size} bytes; expected a picture of at most {LARGEST_FILE}")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected a PNG or JPEG file") from error
    return decode(data, str(path), path)


def decode(data: bytes, name: str, path: Path | None = None) -> Picture:
    """The picture in the bytes of a file; ``name`` is told in errors. Raises UserError as :func:`load`."""
    if not data:
        raise UserError(f"{name}: the file is empty; expected PNG or JPEG")
    try:
        if data.startswith(png.SIGNATURE):
            return _png(data, name, path)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data, name, path)
    except (*UNREADABLE, *_BOMBS) as error:
        raise UserError(f"{name}: the picture is damaged: {error or type(error).__name__}") from error
    raise UserError(f"{name}: neither PNG nor JPEG (it begins with {data[:8]!r})")


def save(picture: Picture, path: Path) -> Path:
    """Write a picture as PNG (also one that came from a JPEG file: JPEG would change every pixel).

    The file appears whole or not at all; returns it, with the suffix ``.png``.

    Raises:
        UserError: the file cannot be written.
    """
    path = path.with_suffix(".png")
    array = picture.array if picture.alpha is None else np.dstack([picture.array, picture.alpha])
    if picture.white > 255:
        data = png.encode16(array.astype(np.uint16), _fitting_profile(picture))
    else:
        buffer = io.BytesIO()
        image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        image.save(buffer, "PNG", icc_profile=_fitting_profile(picture))
        data = buffer.getvalue()
    with writing(path, parents=True) as part:
        part.write_bytes(data)
    return path


def _fitting_profile(picture: Picture) -> bytes | None:
    """The profile of the picture, None where it is one of other colours, which PNG does not allow."""
    colours = b"GRAY" if picture.channels == 1 else b"RGB "
    return picture.profile if picture.profile is not None and picture.profile[16:20] == colours else None


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > LARGEST_PICTURE:
        raise UserError(f"{name}: {width} x {height} pixels; expected at most {LARGEST_PICTURE} in all")


def _png(data: bytes, name: str, path: Path | None) -> Picture:
    header = png.read_header(data)
    _check_size(name, header.width, header.height)
    png.check(data)
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        profile = image.info.get("icc_profile")
        array = _colour16(data, header.colour) if header.depth == 16 and header.colour else _pixels(image)
        if header.colour in (0, 2) and "transparency" in image.info:
            array = _with_key(array, header.depth, image.info["transparency"])
        array = upright(array, image)
    return _assemble(array, "PNG", path, profile)


def _with_key(array: NDArray[np.unsignedinteger], depth: int, key: int | tuple[int, ...]) -> NDArray[np.unsignedinteger]:
    """(H, W, 1 or 3) with alpha behind it, 0 where the samples as they are stored, of ``depth`` bits, are ``key``.

    Pillow compares keys of 1 and 8 bits alone.
    """
    white, most = np.iinfo(array.dtype).max, 2**depth - 1
    opaque = (array != np.array(key) % (most + 1) * (white // most)).any(2, keepdims=True)
    return np.concatenate([array, opaque * array.dtype.type(white)], 2)


def _colour16(data: bytes, colour: int) -> NDArray[np.uint16]:
    """16-bit samples of all but plain grey PNG, of which Pillow would keep the high bytes alone."""
    if colour == 4:
        # The rows of grey with alpha are those of an 8-bit RGBA picture, byte for byte.
        rows = _raw(png.with_type(data, depth=8, colour=6), "RGBA")
        return np.asarray(rows.view(">u2"), dtype=np.uint16)
    high, low = _RAW16[colour]
    return _raw(data, high) * np.uint16(256) + _raw(data, low)


def _jpeg(data: bytes, name: str, path: Path | None) -> Picture:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        _check_size(name, *image.size)
        if image.mode not in ("L", "RGB"):
            raise UserError(f"{name}: a JPEG of mode {image.mode}; expected grey or RGB")
        profile = image.info.get("icc_profile")
        array = upright(_pixels(image), image)
        stored = np.asarray(image)
    # Where the data end too early the decoder goes on with a flat colour and says nothing. Further data before the end
    # mark, which a whole picture never reaches, then show in the pixels.
    end = data.rfind(b"\xff\xd9")
    with Image.open(io.BytesIO(data[:end] + _FURTHER + data[end:]), formats=["JPEG"]) as image:
        if not np.array_equal(stored, np.asarray(image)):
            raise ValueError(f"its header promises {image.width} x {image.height} pixels and the file holds fewer")
    return _assemble(array, "JPEG", path, profile)


def _pixels(image: Image.Image) -> NDArray[np.unsignedinteger]:
    """(H, W, 1, 2, 3 or 4) of a picture that Pillow decodes without loss, a palette's transparency included."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    array = np.asarray(image)
    if array.dtype == np.int32:
        array = array.astype(np.uint16)
    return np.atleast_3d(array)


def _raw(data: bytes, raw: str) -> NDArray[np.uint8]:
    """Pixels in a named raw form: Pillow holds 8 bits per colour, so that high and low bytes are read in turn."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        image.tile = [tile._replace(args=raw) for tile in image.tile]
        return np.array(image)


def _assemble(array: NDArray[np.unsignedinteger], format: str, path: Path | None, profile: bytes | None) -> Picture:
    alpha = None
    if array.shape[2] in (2, 4):
        array, alpha = array[..., :-1], np.ascontiguousarray(array[..., -1])
    return Picture(np.ascontiguousarray(array), alpha, format, path, profile)
