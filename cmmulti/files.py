"""Writing files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import lzma
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

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
    KeyError,
    RuntimeError,
    MemoryError,
)
"""What zipfile and numpy raise on damaged ``.npz`` archives and the array headers in them."""


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
