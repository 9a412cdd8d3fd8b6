"""DICOM CT and MR: a file or a series becomes one volume, or is refused with the reason."""

from __future__ import annotations

import os
from pathlib import Path

from cmmulti.errors import UserError
from modalities.volume.item import Volume
from modalities.volume.scans.dicom_frames import read_frames
from modalities.volume.scans.dicom_stack import stacked


def is_dicom(path: Path) -> bool:
    """Whether a file bears DICOM's mark."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def read_file(path: Path) -> Volume:
    """One file: a single slice, or all frames of an enhanced multi-frame object.

    Raises:
        UserError: it is damaged, or holds something else than grey CT or MR slices.
    """
    return stacked(read_frames(path), path)


def read_series(folder: Path) -> Volume:
    """The one series whose files lie in ``folder`` (below it, where it holds no file itself), sorted by position.

    Raises:
        UserError: no DICOM file, several series, or slices that do not make one regular grid: duplicates, gaps, unequal
            spacing, a tilted gantry.
    """
    files = sorted(path for path in folder.iterdir() if is_dicom(path))
    if not files:
        everything = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
        files = sorted(path for path in everything if is_dicom(path))
    frames = [frame for path in files for frame in read_frames(path)]
    if not frames:
        raise UserError(f"{folder}: expected a DICOM series, found no DICOM image in it")
    return stacked(frames, folder)
