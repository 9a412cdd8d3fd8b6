"""What Pillow leaves out of PNG: checksums of all chunks, data of exactly the promised length, and 16-bit colour."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PIECE = 2**20
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Adam7: first column, first row, column step, row step of each pass (PNG specification, 8.2)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class Header(NamedTuple):
    """IHDR: size in pixels, bits per sample, colour type (0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA)."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool


def read_header(data: bytes) -> Header:
    """The header of a PNG; ValueError with the reason where there is none or it is not valid."""
    if len(data) < 33 or not data.startswith(SIGNATURE) or data[12:16] != b"IHDR":
        raise ValueError("it does not begin with a PNG header")
    width, height, depth, colour, compression, method, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if width == 0 or height == 0 or depth not in _DEPTHS.get(colour, ()) or compression or method or interlace > 1:
        raise ValueError(f"its header is not valid ({width} x {height}, depth {depth}, colour type {colour})")
    return Header(width, height, depth, colour, bool(interlace))


def check(data: bytes) -> None:
    """Walk a whole PNG; the caller has checked that the size in its header is acceptable.

    Raises:
        ValueError: a checksum is wrong, a chunk is cut off, or the compressed pixels are not of the promised length.
    """
    header = read_header(data)
    expected = _raw_length(header)
    inflater, length, at, kind = zlib.decompressobj(), 0, 8, b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ValueError("it is cut off")
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if at + 12 + size > len(data):
            raise ValueError("it is cut off")
        body = data[at + 8 : at + 8 + size]
        if zlib.crc32(body, zlib.crc32(kind)) != struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0]:
            raise ValueError(f"the checksum of its {kind.decode('latin-1')!r} part is wrong")
        if kind == b"IDAT":
            try:
                length += _inflated(inflater, body, expected + 1 - length)
            except zlib.error as error:
                raise ValueError("its compressed pixels are damaged") from error
            if length > expected:
                break
        at += 12 + size
    if length != expected or not inflater.eof:
        more = "more" if length > expected else "fewer"
        raise ValueError(f"its header promises {header.width} x {header.height} pixels and the file holds {more}")


def with_type(data: bytes, depth: int, colour: int) -> bytes:
    """The same PNG under another depth and colour type, for rows that are equal byte for byte."""
    head = data[16:24] + bytes([depth, colour]) + data[26:29]
    return data[:8] + _chunk(b"IHDR", head) + data[33:]


def encode16(array: NDArray[np.uint16], profile: bytes | None = None) -> bytes:
    """A 16-bit PNG of (H, W, 1 grey, 2 grey + alpha, 3 RGB or 4 RGBA) uint16; rows are stored as differences."""
    height, width, samples = array.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[samples]
    rows = array.astype(">u2").reshape(height, -1).view(np.uint8)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    raw = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    if profile is not None:
        parts.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    parts += [(b"IDAT", zlib.compress(raw.tobytes())), (b"IEND", b"")]
    return SIGNATURE + b"".join(_chunk(kind, body) for kind, body in parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _inflated(inflater: zlib._Decompress, body: bytes, most: int) -> int:
    """How many bytes ``body`` adds, counted up to ``most`` without holding them."""
    total = 0
    while not inflater.eof and total < most:
        piece = inflater.decompress(body, min(PIECE, most - total))
        total, body = total + len(piece), inflater.unconsumed_tail
        if not piece and not body:
            break
    return total


def _raw_length(header: Header) -> int:
    """Bytes of the filtered rows before compression."""
    bits = _SAMPLES[header.colour] * header.depth

    def one_pass(width: int, height: int) -> int:
        return height * (1 + (width * bits + 7) // 8) if width > 0 else 0

    if not header.interlaced:
        return one_pass(header.width, header.height)
    return sum(one_pass(-((x - header.width) // dx), -((y - header.height) // dy)) for x, y, dx, dy in _ADAM7)
