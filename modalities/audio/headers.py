"""What a sound file promises, checked against what it holds, before a library that is kinder reads it."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from cmmulti.errors import UserError
from modalities.audio.clip import Samples

WAVES = (b"RIFF", b"RIFX", b"RF64")
UNKNOWN = 0xFFFFFFFF
"""A size that RF64 keeps elsewhere, and that a program writes to a pipe: to the end of the file."""
NEEDED = frozenset((b"fmt ", b"data"))


class Chunks(NamedTuple):
    """How a container that is no WAV file counts its chunks.

    Args:
        first: where they begin. name: bytes of a name. length: of a chunk, for struct. own: bytes of a name and a length,
            where the length counts them. step: what chunks are padded to. sound: how the name of the samples begins.
    """

    first: int
    name: int
    length: str
    own: int
    step: int
    sound: bytes


CONTAINERS = {
    b"FORM": Chunks(12, 4, ">I", 0, 2, b"SSND"),  # AIFF
    b"riff": Chunks(40, 16, "<q", 24, 8, b"data"),  # W64
    b"caff": Chunks(8, 4, ">q", 0, 1, b"data"),
}
SUN = {b".snd": ">II", b"dns.": "<II"}
"""AU: where the samples begin and how many bytes they are."""


def check_header(path: Path) -> None:
    """Refuse a WAV file whose chunks promise more than the file holds, and an AIFF, W64, CAF or AU file whose samples do.

    Their reader takes what is there for the whole.

    Raises:
        UserError: naming the chunk, its promise and what is there.
    """
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path}: the file is empty; expected a sound file (WAV, FLAC, OGG, MP3)")
    with path.open("rb") as file:
        mark = file.read(4)
        if mark in WAVES:
            file.seek(0)
            _check_wave(path, file, size)
        elif mark in CONTAINERS:
            _check_sound(path, size, *_sound(file, size, CONTAINERS[mark]))
        elif mark in SUN and size >= 12:
            start, length = struct.unpack(SUN[mark], file.read(8))
            _check_sound(path, size, start, 0 if length == UNKNOWN else length)


def _sound(file: BinaryIO, size: int, chunks: Chunks) -> tuple[int, int]:
    """Where the samples begin and how many bytes they promise to be; 0 where they promise nothing, or are not found."""
    place, head = chunks.first, chunks.name + struct.calcsize(chunks.length)
    while place + head <= size:
        file.seek(place)
        name = file.read(chunks.name)
        length = struct.unpack(chunks.length, file.read(head - chunks.name))[0] - chunks.own
        place += head
        if name.startswith(chunks.sound) or length < 0:
            return place, max(length, 0)
        place += length + -length % chunks.step
    return place, 0


def _check_sound(path: Path, size: int, start: int, length: int) -> None:
    if length and start + length > size:
        raise UserError(
            f"{path}: truncated or damaged: its header promises {length} bytes of samples, {max(size - start, 0)} are there"
        )


def _check_wave(path: Path, file: BinaryIO, size: int) -> None:
    head = file.read(12)
    if len(head) < 12 or head[8:] != b"WAVE":
        raise UserError(f"{path}: damaged WAV header; expected RIFF and WAVE in its first 12 bytes")
    order = ">" if head[:4] == b"RIFX" else "<"
    promised = struct.unpack(order + "I", head[4:8])[0] + 8
    wide: int | None = None
    seen: set[bytes] = set()
    place = 12
    # What lies after the RIFF chunk, such as an ID3 tag, is no chunk; some writers leave its size at 0.
    while place + 8 <= size and (place < promised or not seen >= NEEDED):
        file.seek(place)
        name, length = struct.unpack(order + "4sI", file.read(8))
        if name == b"ds64" and head[:4] == b"RF64":
            promised, wide = (v + 8 * (not i) for i, v in enumerate(struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))))
        if name == b"data":
            length = (size - place - 8 if wide is None else wide) if length == UNKNOWN else length
        if place + 8 + length > size:
            raise UserError(
                f"{path}: truncated or damaged WAV: chunk {name.decode('latin-1')!r} promises {length} bytes, "
                f"{size - place - 8} are there"
            )
        seen.add(name)
        place += 8 + length + length % 2
    # The pad byte of an odd last chunk is often left out.
    if not seen >= NEEDED:
        missing = " and ".join(sorted(n.decode().strip() for n in NEEDED - seen))
        raise UserError(f"{path}: damaged WAV: it has no {missing} chunk")
    if head[:4] != b"RF64" and promised != UNKNOWN + 8 and promised > size + 1:
        raise UserError(f"{path}: truncated WAV: its header promises {promised} bytes, {size} are there")


def check_flac(path: Path, samples: Samples, depth: int) -> None:
    """Refuse a FLAC file whose samples are not those that were encoded: its header carries their MD5 sum.

    Args:
        samples: (frames, channels) int16 or int32 as read, most significant bits first. depth: bits per sample.
    """
    expected = _flac_digest(path)
    if expected is None or not any(expected):
        return
    size = (depth + 7) // 8
    values = samples.astype(np.int64) >> (8 * samples.dtype.itemsize - depth)
    raw = np.ascontiguousarray(values, "<i8").view(np.uint8).reshape(-1, 8)[:, :size]
    if hashlib.md5(raw.tobytes(), usedforsecurity=False).digest() != expected:
        raise UserError(f"{path}: damaged FLAC: its samples do not match the MD5 sum in its header")


def _flac_digest(path: Path) -> bytes | None:
    """The 16 bytes in STREAMINFO, or None where the file does not begin with it."""
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":
            skip = sum(b << shift for b, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            file.seek(10 + skip)
        else:
            file.seek(0)
        stream = file.read(42)
    if stream[:4] != b"fLaC" or len(stream) < 42 or stream[4] & 0x7F:
        return None
    return stream[26:42]
