"""Data sets of the audio adapter, by name."""

from __future__ import annotations

import torch

from cmmulti.conditioning import NULL_LABEL
from cmmulti.config.checking import checked
from cmmulti.errors import unknown_name
from cmmulti.modality import DataSource, Split, TrainingSet
from modalities.audio.settings import AudioSettings

NAMES = ("fsdd", "folder")


def dataset(source: DataSource, split: Split, settings: AudioSettings) -> TrainingSet:
    """One split of ``source``; without labels where the model knows none (``classes: 0``).

    Raises:
        UserError: the name is unknown, the data are not there or cannot be read, or an option is wrong.
    """
    made = _labelled(source, split, settings)
    if settings.classes == 0:
        made.labels, made.class_names = torch.full_like(made.labels, NULL_LABEL), ()
    return made


def _labelled(source: DataSource, split: Split, settings: AudioSettings) -> TrainingSet:
    from modalities.audio.folder import FolderOptions, FolderSet
    from modalities.audio.spoken_digits import SpokenDigits, SpokenDigitsOptions

    if source.name == "fsdd":
        digits = checked(SpokenDigitsOptions, source.options, "data.options")
        return SpokenDigits(source.data_root() / "fsdd" / "fsdd.npz", split, settings, digits)
    if source.name == "folder":
        options = checked(FolderOptions, source.options, "data.options")
        return FolderSet(source.data_root(), split, settings, options, source.on_bad_file == "skip")
    raise unknown_name("audio data set", source.name, NAMES)
