"""Data sets by name: ``ixi-t1-2mm``, ``ct-hu-256``, ``hippocampus``, and ``folder`` for one's own scans."""

from __future__ import annotations

import os
from pathlib import Path

from cmmulti.config.checking import checked
from cmmulti.errors import UserError, unknown_name
from cmmulti.modality import DataSource, Split
from modalities.volume.archives import ARCHIVES
from modalities.volume.folder import folder_scans
from modalities.volume.settings import VolumeSettings
from modalities.volume.training import VolumeData, VolumeSet


def dataset(source: DataSource, split: Split, settings: VolumeSettings) -> VolumeSet:
    """One split of the data set ``source.name`` on a model's grid.

    Raises:
        UserError: no such data set or option, its files are missing or damaged, or the split holds nothing.
    """
    if source.name != "folder" and source.name not in ARCHIVES:
        raise unknown_name("volume data set", source.name, [*ARCHIVES, "folder"])
    options = checked(VolumeData, dict(source.options), "data.options")
    root = _root(source)
    if source.name == "folder":
        scans = folder_scans(root, split, source.on_bad_file, options.seed, options.fractions, settings)
    else:
        scans = ARCHIVES[source.name](root, split, options.seed, options.fractions)
    made = VolumeSet(scans, settings, options)
    if not len(made):
        raise UserError(f"data {source.name}: nothing to learn from in the {split} part of {root} ({len(scans)} scans)")
    return made


def _root(source: DataSource) -> Path:
    root = source.root or os.environ.get("CMMULTI_DATA")
    if root is None:
        raise UserError(f"data {source.name}: expected data.root (or CMMULTI_DATA) to name the folder that holds it")
    path = Path(root) if source.name == "folder" else Path(root) / source.name
    if not path.is_dir():
        raise UserError(f"data {source.name}: expected a folder, found none at {path}")
    return path
