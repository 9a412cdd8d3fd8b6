"""``folder``: a folder of sound files, of class folders, or with a CSV manifest ``path,label``."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from cmmulti.conditioning import NULL_LABEL
from cmmulti.errors import UserError
from cmmulti.files import files_below, regular_file
from cmmulti.modality import Split, TrainingSet
from modalities.audio.augment import placed, scaled
from modalities.audio.clip import Clip
from modalities.audio.files import SUFFIXES, load
from modalities.audio.representation import to_model
from modalities.audio.resampling import resampled
from modalities.audio.settings import AudioSettings

LARGEST = 1 << 29
"""Most samples at the model's rate that are held in memory: 18 hours at 8 kHz, 2 GiB."""


class FolderOptions(BaseModel):
    """``data.options`` of ``folder``.

    Attributes:
        manifest: a CSV file with the columns path, label and, if wanted, split; paths are relative to it. It is looked for
            in the folder. gain_db: largest random gain either way. val, test: shares of the files that are held out where
            no manifest says otherwise. seed: chooses them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: str | None = None
    gain_db: float = Field(default=6.0, ge=0, le=60)
    val: float = Field(default=0.05, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0


class Entry(NamedTuple):
    """A file of the set, its class name (empty for none) and its split (all of them empty: by chance)."""

    path: Path
    label: str
    split: str


class FolderSet(TrainingSet):
    """One split of a folder; the clips are held in memory, mono, at the model's rate.

    Long files are cut at random, short ones placed at random in silence. Classes are numbered in the order of their
    names; ``class_names`` has them.
    """

    def __init__(self, root: Path, split: Split, settings: AudioSettings, options: FolderOptions, skip: bool) -> None:
        self.settings, self.options = settings, options
        entries = _entries(root, options)
        self.class_names = sorted({e.label for e in entries} - {""})
        if len(self.class_names) > settings.classes > 0:
            raise UserError(
                f"{root}: {len(self.class_names)} classes ({', '.join(self.class_names[:5])}, ...); "
                f"expected at most modality.classes = {settings.classes}"
            )
        self.skipped: list[str] = []
        self.waves: list[Tensor] = []
        self.paths: list[Path] = []
        labels = []
        total = 0
        for entry in _of_split(entries, split, options):
            try:
                wave = _mono(load(entry.path), settings.mel.rate)
            except UserError as error:
                if not skip:
                    raise UserError(f"{error} (data.on_bad_file: skip leaves such files out)") from error
                self.skipped.append(str(error))
                continue
            total += len(wave)
            if total > LARGEST:
                raise UserError(
                    f"{root}: more than {LARGEST / settings.mel.rate / 3600:.0f} hours of sound; use fewer files"
                )
            self.waves.append(wave)
            self.paths.append(entry.path)
            labels.append(self.class_names.index(entry.label) if entry.label else NULL_LABEL)
        if not self.waves:
            raise UserError(f"{root}: no readable sound file in the {split} split ({len(self.skipped)} were skipped)")
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.names = [str(p) for p in self.paths]

    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        wave = placed(self.waves[index], self.settings.samples, generator)
        return to_model(scaled(wave, self.options.gain_db, generator)[None], self.settings)[0]

    def item(self, index: int) -> Clip:
        return load(self.paths[index])


def _mono(clip: Clip, rate: int) -> Tensor:
    return resampled(torch.from_numpy(clip.mid().astype(np.float32)), clip.rate, rate)


def _entries(root: Path, options: FolderOptions) -> list[Entry]:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; expected a folder of sound files")
    if options.manifest is not None:
        return _manifest(root / options.manifest)
    files = files_below(root, SUFFIXES)
    if not files:
        raise UserError(f"{root}: no sound files; expected {', '.join(SUFFIXES)}, in class folders or not")
    # A file in a folder of its own class; files in the root itself have none.
    return [Entry(p, p.relative_to(root).parts[0] if p.parent != root else "", "") for p in files]


def _manifest(path: Path) -> list[Entry]:
    regular_file(path, "a CSV manifest")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            if "path" not in columns:
                raise UserError(f"{path}: expected a column path (and label, split), got {', '.join(columns) or 'nothing'}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a CSV manifest: {error}") from error
    found: dict[str, tuple[int, Entry]] = {}
    for number, row in enumerate(rows, 2):
        if None in row:
            raise UserError(f"{path}: line {number}: expected {len(columns)} values, as many as columns; got {row}")
        split = (row.get("split") or "").strip()
        if not row["path"] or split not in ("", "train", "val", "test"):
            raise UserError(f"{path}: line {number}: expected a path and a split of train, val or test, got {row}")
        entry = Entry(path.parent / row["path"].strip(), (row.get("label") or "").strip(), split)
        # One file as two items would lie in two splits.
        first, _ = found.setdefault(os.path.normpath(entry.path), (number, entry))
        if first != number:
            raise UserError(f"{path}: line {number}: {row['path']} is on line {first} already; expected every file once")
    if not found:
        raise UserError(f"{path}: lists no files")
    given, open_ = ([n for n, e in found.values() if bool(e.split) == known] for known in (True, False))
    if given and open_:
        raise UserError(
            f"{path}: line {open_[0]}: no split, though line {given[0]} has one; expected one on every line or on none"
        )
    return [entry for _, entry in found.values()]


def _of_split(entries: list[Entry], split: Split, options: FolderOptions) -> list[Entry]:
    """The entries of one split: as the manifest says, else by a seeded draw over all entries."""
    if any(e.split for e in entries):
        return [e for e in entries if e.split == split]
    order = np.random.default_rng(options.seed).permutation(len(entries))
    # One file in each held-out part as soon as there are three.
    test = max(round(options.test * len(entries)), int(options.test > 0 and len(entries) > 2))
    val = max(round(options.val * len(entries)), int(options.val > 0 and len(entries) > 2))
    parts = {"test": order[:test], "val": order[test : test + val], "train": order[test + val :]}
    return [entries[i] for i in sorted(parts[split])]
