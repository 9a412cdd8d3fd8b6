"""Files found by their suffix, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import stat
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cmmulti.errors import UserError

DAMAGED_ARCHIVE: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    SyntaxError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    MemoryError,
)
"""What zipfile and numpy raise on damaged ``.npz`` archives and the array headers in them."""


def files_below(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files below a folder that end in one of ``suffixes`` (lower case, with the dot), sorted by path.

    What begins with a dot, file or folder, is left out: systems keep their own notes there, such as ``._a.wav``.
    """

    def visible(path: Path) -> bool:
        return not any(part.startswith(".") for part in path.relative_to(root).parts)

    return sorted(p for p in root.rglob("*") if p.suffix.lower() in suffixes and visible(p) and p.is_file())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, with the same suffix, that takes its place when the block ends well.

    It is flushed to the disk first; when the block fails nothing is left and a former file stays as it was.

    Example:
        >>> with replacing(Path("x.png")) as part:
        ...     picture.save(part)
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name.split('.')[0]}-", suffix="".join(path.suffixes))
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with open(part, "rb+") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path, parents: bool = False) -> Iterator[Path]:
    """:func:`replacing`, whose failures are the user's error; ``parents`` makes the folder first where it is missing.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            yield part
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write a compressed ``.npz`` archive, readable without pickle, as :func:`writing` does; a missing folder is made.

    Args:
        arrays: name -> numpy array, or what numpy makes one of.

    Raises:
        UserError: the archive cannot be written.
    """
    import numpy as np  # not needed by commands that only name files

    with writing(path, parents=True) as part, open(part, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    return path


def json_text(values: Any) -> str:
    """JSON as files here hold it: ASCII, since the name of a file need not be text and is kept all the same."""
    return json.dumps(values, indent=2) + "\n"


def regular_file(path: Path, expected: str) -> int:
    """The size in bytes of a file that is one: a pipe or a device may have no end, or nobody who writes to it.

    Args:
        expected: what the file should be, for the message where it is not.

    Raises:
        UserError: it is missing, or a folder, pipe or device.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected {expected}") from error
    except (OSError, ValueError) as error:  # a name with a zero byte is no name
        raise UserError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); expected {expected}"
        ) from error
    if stat.S_ISREG(found.st_mode):
        return found.st_size
    kind = "folder" if stat.S_ISDIR(found.st_mode) else "named pipe" if stat.S_ISFIFO(found.st_mode) else "device"
    raise UserError(f"{path}: a {kind}; expected {expected}")


def read_bytes(path: Path, expected: str, largest: int, handed: bool = False) -> bytes:
    """What a regular file holds.

    Args:
        expected: as for :func:`regular_file`. largest: its size in bytes at most. handed: take what a shell hands to the
            command as well: ``/dev/stdin``, and the ``/dev/fd/63`` of ``<(...)``.

    Raises:
        UserError: it is missing, too large, or none that is read.
    """
    if not (handed and (path == Path("/dev/stdin") or path.parent == Path("/dev/fd"))):
        regular_file(path, expected)
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)  # not by the size that was told: a file may grow, a pipe has none
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected {expected}") from error
    if len(content) > largest:
        raise UserError(f"{path}: more than {largest} bytes; expected {expected} of at most {largest} bytes")
    return content


def read_json(path: Path, expected: str, largest: int = 4_000_000) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        expected: what the file should be, for the message where it is not. largest: its size in bytes at most.

    Raises:
        UserError: it is missing, no regular file, too large, damaged, or holds something else than an object.
    """
    content = read_bytes(path, expected, largest)
    try:
        values = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values
