"""``fsdd``: the Free Spoken Digit Dataset, one archive, split by take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from cmmulti.conditioning import NULL_LABEL
from cmmulti.errors import UserError
from cmmulti.files import DAMAGED_ARCHIVE
from cmmulti.modality import Split, TrainingSet
from cmmulti.randomness import key
from modalities.audio.augment import placed, scaled, uniform, whole
from modalities.audio.clip import Clip, from_floats
from modalities.audio.representation import to_model
from modalities.audio.resampling import resampled
from modalities.audio.settings import AudioSettings

KEYS = ("audio", "offsets", "labels", "speaker_ids", "take", "official_test", "names", "sample_rate")
GAP = 0.2
"""Longest pause between joined takes, seconds."""


class SpokenDigitsOptions(BaseModel):
    """``data.options`` of ``fsdd``.

    Attributes:
        joined: share of windows cut from several takes of one speaker in a row; they carry no label.
        gain_db: largest random gain either way. val_takes: takes held out for validation. seed: chooses them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    joined: float = Field(default=0.3, ge=0, lt=1)
    gain_db: float = Field(default=12.0, ge=0, le=60)
    val_takes: int = Field(default=2, ge=1, le=20)
    seed: int = 0


class SpokenDigits(TrainingSet):
    """Takes 0-4 are ``test`` (the source's split), ``val_takes`` of the others ``val``, the rest ``train``.

    Exact duplicates are removed before splitting. ``train`` ends with the windows of joined takes.
    """

    licence = "CC-BY-SA-4.0"
    attribution = "Free Spoken Digit Dataset (Z. Jackson and contributors, github.com/Jakobovski/free-spoken-digit-dataset)"

    def __init__(self, path: Path, split: Split, settings: AudioSettings, options: SpokenDigitsOptions) -> None:
        self.settings, self.options, self.split = settings, options, split
        archive = _read(path)
        self.audio, self.offsets, self.rate = archive["audio"], archive["offsets"], int(archive["sample_rate"].item())
        chosen = _chosen(archive, split, options)
        if not len(chosen):
            raise UserError(f"{path}: no clip is left for the {split} split")
        self.clips = chosen
        self.speakers = archive["speaker_ids"][chosen]
        joined = round(len(chosen) * options.joined / (1 - options.joined)) if split == "train" else 0
        self.labels = torch.cat(
            [torch.from_numpy(archive["labels"][chosen].astype(np.int64)), torch.full((joined,), NULL_LABEL)]
        )
        self.names = [str(n) for n in archive["names"][chosen]] + [f"joined takes {i}" for i in range(joined)]
        self.class_names = [str(digit) for digit in range(10)]
        self.path = path

    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        return to_model(self._wave(index, generator)[None], self.settings)[0]

    def item(self, index: int) -> Clip:
        if index < len(self.clips):
            return Clip(self._stored(index)[:, None], self.rate, path=Path(self.names[index]))
        wave = from_floats(self._wave(index, None).numpy(), self.settings.mel.rate)
        return replace(wave, path=Path(self.names[index]))

    def _wave(self, index: int, generator: torch.Generator | None) -> Tensor:
        """(samples,) float32 at the model's rate."""
        length = self.settings.samples
        if index < len(self.clips):
            return scaled(placed(self._take(index), length, generator), self.options.gain_db, generator)
        draws = generator if generator is not None else torch.Generator().manual_seed(key("joined", index))
        return scaled(self._joined(length, draws), self.options.gain_db, generator)

    def _joined(self, length: int, generator: torch.Generator) -> Tensor:
        """A window of takes of one speaker in a row, pauses between them."""
        mine = np.flatnonzero(self.speakers == self.speakers[whole(0, len(self.clips), generator)])
        parts: list[Tensor] = []
        skip = None
        while skip is None or sum(map(len, parts)) < skip + length:
            parts.append(self._take(int(mine[whole(0, len(mine), generator)])))
            skip = whole(0, len(parts[0]), generator) if skip is None else skip
            parts.append(torch.zeros(round(uniform(0, GAP, generator) * self.settings.mel.rate)))
        return torch.cat(parts)[skip : skip + length]

    def _take(self, index: int) -> Tensor:
        wave = torch.from_numpy(self._stored(index).astype(np.float32) / 32768)
        return resampled(wave, self.rate, self.settings.mel.rate)

    def _stored(self, index: int) -> NDArray[np.int16]:
        clip = int(self.clips[index])
        return self.audio[self.offsets[clip] : self.offsets[clip + 1]]


def _read(path: Path) -> dict[str, NDArray]:
    if not path.is_file():
        raise UserError(f"{path}: not found; `cmmulti data prepare fsdd` makes it")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            archive = {name: file[name] for name in KEYS}
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: cannot be read as the fsdd archive: {error}") from error
    clips = len(archive["labels"])
    offsets, audio = archive["offsets"], archive["audio"]
    fits = (
        len(offsets) == clips + 1 and offsets[0] == 0 and offsets[-1] == len(audio) and bool((np.diff(offsets) > 0).all())
    )
    if audio.dtype != np.int16 or not fits or any(len(archive[k]) != clips for k in KEYS[3:7]):
        raise UserError(
            f"{path}: expected int16 audio and offsets, labels, takes that fit it, got {clips} labels for "
            f"{len(audio)} samples"
        )
    return archive


def _chosen(archive: dict[str, NDArray], split: Split, options: SpokenDigitsOptions) -> NDArray[np.int64]:
    """Indices of the split's clips."""
    audio, offsets = archive["audio"], archive["offsets"]
    first: dict[bytes, int] = {}
    for i in range(len(archive["labels"])):
        first.setdefault(audio[offsets[i] : offsets[i + 1]].tobytes(), i)
    unique = np.array(sorted(first.values()), np.int64)
    test = archive["official_test"].astype(bool)[unique]
    takes = archive["take"][unique]
    rest = np.unique(takes[~test])
    held = np.random.default_rng(options.seed).permutation(rest)[: options.val_takes]
    val = np.isin(takes, held) & ~test
    return unique[{"test": test, "val": val, "train": ~test & ~val}[split]]
