"""Standard error kept for our own words: libmpg123 writes its doubts about an MP3 there, past Python."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

STANDARD_ERROR = 2
SILENT = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM")
"""How files begin whose decoders say nothing."""


@contextlib.contextmanager
def hushed(path: Path) -> Iterator[None]:
    """Nothing that a C library writes to standard error while it reads ``path`` is seen."""
    with path.open("rb") as file:
        talkative = file.read(4) not in SILENT
    try:
        kept = os.dup(STANDARD_ERROR) if talkative else None
    except OSError:  # a parent has closed it
        kept = None
    if kept is None:
        yield
        return
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), STANDARD_ERROR)
        yield
    finally:
        os.dup2(kept, STANDARD_ERROR)
        os.close(kept)
