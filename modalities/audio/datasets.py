"""Data sets of the audio adapter, by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cmmulti.errors import UserError, unknown_name
from cmmulti.modality import DataSource, Split, TrainingSet
from modalities.audio.settings import AudioSettings

Options = TypeVar("Options", bound=BaseModel)

NAMES = ("fsdd", "folder")


def dataset(source: DataSource, split: Split, settings: AudioSettings) -> TrainingSet:
    """One split of ``source``.

    Raises:
        UserError: the name is unknown, the data are not there or cannot be read, or an option is wrong.
    """
    from modalities.audio.folder import FolderOptions, FolderSet
    from modalities.audio.spoken_digits import SpokenDigits, SpokenDigitsOptions

    if source.name == "fsdd":
        return SpokenDigits(_root(source) / "fsdd" / "fsdd.npz", split, settings, _options(SpokenDigitsOptions, source))
    if source.name == "folder":
        skip = source.on_bad_file == "skip"
        return FolderSet(_root(source), split, settings, _options(FolderOptions, source), skip)
    raise unknown_name("audio data set", source.name, NAMES)


def _root(source: DataSource) -> Path:
    root = source.root if source.root is not None else os.environ.get("CMMULTI_DATA")
    if not root:
        raise UserError(f"data.root: data set {source.name!r} needs a folder; set data.root or the variable CMMULTI_DATA")
    return Path(root)


def _options(kind: type[Options], source: DataSource) -> Options:
    options: dict[str, Any] = dict(source.options)
    try:
        return kind(**options)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        raise UserError(
            f"data.options.{key}: {wrong['msg']}, got {options.get(key)!r} (known: {', '.join(kind.model_fields)})"
        ) from error
