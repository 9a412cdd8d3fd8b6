"""A folder of one's own scans as a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from cmmulti.errors import UserError
from cmmulti.modality import Split
from modalities.volume import files
from modalities.volume.item import Volume
from modalities.volume.representation import check_kind, check_spacing
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

    Folders ``train``, ``val`` and ``test`` are the splits where they exist; otherwise scans are shuffled by ``seed`` and
    divided by ``fractions``, folder by folder of the first level, so that one subject's scans stay together.

    Raises:
        UserError: nothing there, or a scan that cannot be read or is of another kind or spacing than the model's;
            with ``skip`` such a scan is named on standard error and left out.
    """
    named = all((root / part).is_dir() for part in ("train", "val"))
    if named:
        found = list(files.find(root / split)) if (root / split).is_dir() else []
    else:
        found = list(files.find(root))
        subject = {path: "/".join(path.relative_to(root).parts[:1]) for path in found}
        subjects = sorted(set(subject.values()))
        chosen = {subjects[i] for i in divide(len(subjects), seed, fractions)[split]}
        found = [path for path in found if subject[path] in chosen]
    if not found:
        raise UserError(f"{root}: expected NIfTI files or DICOM series for the {split} part, found none")
    scans: dict[str, Volume] = {}
    for path in found:
        try:
            volume = files.load(path)
            check_kind(volume, settings)
            check_spacing(volume, settings, advice="resample it first, or change modality.voxel_mm")
        except UserError as error:
            if on_bad_file == "error":
                raise
            print(f"skipped: {error}", file=sys.stderr)
            continue
        scans[str(path.relative_to(root))] = volume
    return scans
