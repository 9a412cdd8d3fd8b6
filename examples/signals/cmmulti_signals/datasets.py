"""Data sets by name: ``synthetic-ecg``, made on the spot, and ``folder`` for one's own CSV files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from cmmulti.conditioning import NULL_LABEL
from cmmulti.config.checking import checked
from cmmulti.errors import UserError, unknown_name
from cmmulti.modality import DataSource, Split, TrainingSet
from cmmulti_signals import files, representation, synthetic
from cmmulti_signals.settings import SignalSettings
from cmmulti_signals.signal import Signal


class SyntheticOptions(BaseModel):
    """``data.options`` of ``synthetic-ecg``: how many signals of each split there are."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    train: int = Field(2000, ge=2)
    val: int = Field(200, ge=2)
    test: int = Field(200, ge=2)


class FolderOptions(BaseModel):
    """``data.options`` of ``folder``: the seed of the split and the fractions of files for val and test."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int = 0
    fractions: tuple[float, float] = (0.1, 0.1)


class SignalSet(TrainingSet):
    """Recordings in memory. A training tensor is a window of each, anywhere when a generator is given.

    Args:
        signals: of the model's rate and channels, at least ``length`` samples each. labels: a class each.
    """

    def __init__(
        self, signals: Sequence[Signal], names: Sequence[str], labels: Sequence[int], length: int, tensors: list[Tensor]
    ) -> None:
        self.signals, self.names, self.length, self.tensors = signals, names, length, tensors
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.class_names = ["rest", "exercise"] if (self.labels >= 0).any() else []

    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        x = self.tensors[index]
        room = x.shape[-1] - self.length
        first = room // 2 if generator is None else int(torch.randint(room + 1, (1,), generator=generator))
        return x[:, first : first + self.length]

    def item(self, index: int) -> Signal:
        return self.signals[index]


def synthetic_ecg(source: DataSource, split: Split, settings: SignalSettings) -> SignalSet:
    """Signals of half as much again as a window; each depends on its split and number alone."""
    options = checked(SyntheticOptions, dict(source.options), "data.options")
    n, signals = getattr(options, split), []
    names = tuple(f"ecg{c + 1}_mV" for c in range(settings.channels))
    labels = [i % len(synthetic.BEATS_PER_MINUTE) for i in range(n)]
    for i, label in enumerate(labels):
        generator = np.random.default_rng([("train", "val", "test").index(split), i])
        samples = np.stack([synthetic.ecg(label, settings.length * 3 // 2, settings.rate, generator) for _ in names], 1)
        signals.append(Signal(samples, settings.rate, names))
    made = _set(signals, [f"synthetic-ecg/{split}/{i}" for i in range(n)], labels, settings)
    made.licence, made.attribution = "Apache-2.0", "synthetic ECG of the package cmmulti-signals, no one's heart"
    return made


def folder(source: DataSource, split: Split, settings: SignalSettings) -> SignalSet:
    """Every CSV file below ``root``, split by file; each must be as long as a window."""
    options = checked(FolderOptions, dict(source.options), "data.options")
    root = source.data_root()
    if not root.is_dir():
        raise UserError(f"data.root: expected a folder of CSV files, got {root}")
    paths = sorted(root.rglob("*.csv"))
    order = np.random.default_rng(options.seed).permutation(len(paths)).tolist()
    val, test = (round(len(paths) * f) for f in options.fractions)
    parts = {"val": order[:val], "test": order[val : val + test], "train": order[val + test :]}
    signals, names = [], []
    for path in (paths[i] for i in sorted(parts[split])):
        try:
            signal = files.load(path)
            if len(signal.samples) < settings.length:
                raise UserError(f"{path}: {len(signal.samples)} samples; expected at least the window's {settings.length}")
            representation.encode(signal, settings)
        except UserError as error:
            if source.on_bad_file == "error":
                raise
            print(f"skipped: {error}")
            continue
        signals.append(signal)
        names.append(str(path))
    if not signals:
        raise UserError(f"{root}: no usable CSV file for the {split} part among {len(paths)}")
    return _set(signals, names, [NULL_LABEL] * len(signals), settings)


def _set(signals: Sequence[Signal], names: Sequence[str], labels: Sequence[int], settings: SignalSettings) -> SignalSet:
    tensors = [representation.encode(s, settings)[0] for s in signals]
    return SignalSet(signals, names, labels, settings.length, tensors)


DATASETS = {"synthetic-ecg": synthetic_ecg, "folder": folder}


def dataset(source: DataSource, split: Split, settings: SignalSettings) -> SignalSet:
    """One split of the data set ``source.name``."""
    if source.name not in DATASETS:
        raise unknown_name("data set of signals", source.name, DATASETS)
    return DATASETS[source.name](source, split, settings)
