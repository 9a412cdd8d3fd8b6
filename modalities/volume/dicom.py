from __future__ import annotations

from pathlib import Path

from modalities.volume.item import Volume


def is_dicom(path: Path) -> bool:
    with path.open("rb") as f:
        f.seek(128)
        return f.read(4) == b"DICM"


def read_series(path: Path) -> Volume:
    raise NotImplementedError


def read_file(path: Path) -> Volume:
    raise NotImplementedError
