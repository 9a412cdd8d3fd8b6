"""A folder of one's own scans as a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from cmmulti.errors import UserError
from cmmulti.modality import Split
from modalities.volume.item import Volume
from modalities.volume.representation import check_kind, check_spacing, intensity
from modalities.volume.scans import files
from modalities.volume.settings import VolumeSettings
from modalities.volume.splits import divide


def folder_scans(
    root: Path,
    split: Split,
    on_bad_file: Literal["error", "skip"],
    seed: int,
    fractions: tuple[float, float],
    settings: VolumeSettings,
) -> dict[str, Volume]:
    """NIfTI files and DICOM series below ``root``, kept in memory as they are stored.

    Folders ``train``, ``val`` and ``test`` are the splits that they name. The others are made of what lies in ``train``, or
    in no such folder: shuffled by ``seed`` and shared by ``fractions``, subfolder by subfolder, so that one subject's scans
    stay together.

    Raises:
        UserError: nothing there, or a scan that cannot be read, is of another kind or spacing than the model's, or holds
            no magnitudes; with ``skip`` such a scan is named on standard error and left out.
    """
    given = [part for part in ("val", "test") if (root / part).is_dir()]
    if split in given:
        found = list(files.find(root / split))
    else:
        rest = root / "train" if (root / "train").is_dir() else root
        val, test = (0.0 if part in given else share for part, share in zip(("val", "test"), fractions, strict=True))
        apart = [root / part for part in given]
        scans = [path for path in files.find(rest) if not any(path.is_relative_to(folder) for folder in apart)]
        subject = {path: path.relative_to(rest).parts[:1] for path in scans}
        subjects = sorted(set(subject.values()))
        chosen = {subjects[i] for i in divide(len(subjects), seed, (val, test))[split]}
        found = [path for path in scans if subject[path] in chosen]
    if not found:
        raise UserError(f"{root}: expected NIfTI files or DICOM series for the {split} part, found none")
    read: dict[str, Volume] = {}
    for path in found:
        try:
            volume = files.load(path)
            check_kind(volume, settings)
            check_spacing(volume, settings, advice="resample it first, or change modality.voxel_mm")
            intensity(volume.values(), settings, str(path))
        except UserError as error:
            if on_bad_file == "error":
                raise
            print(f"skipped: {error}", file=sys.stderr)
            continue
        read[str(path.relative_to(root))] = volume
    return read
