"""Networks whose inner layers say how alike two tensors look, for distances in training (LPIPS, arXiv 1801.03924).

The one that comes with the project is a classifier that ``cmmulti classifier`` trained. Others, such as one with weights of
your own, are entry points of the group ``cmmulti.feature_networks``.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from torch import Tensor, nn

from cmmulti.config.checking import checked
from cmmulti.errors import UserError
from cmmulti.files import json_text, read_json, replacing
from cmmulti.nn.classifier import Classifier
from cmmulti.weights import read_weights, shapes_of, write_weights

CONFIG, WEIGHTS, FORMAT = "classifier.json", "classifier.safetensors", 1
LARGEST_CONFIG, MOST_VALUES = 100_000, 2**31


class FeatureNetwork(Protocol):
    """A module with its weights in place; the constructor's arguments are its settings in a config."""

    def layers(self, x: Tensor) -> Sequence[Tensor]:
        """Features (B, channels, *positions) of each layer for ``x`` (B, C, *spatial) float32 in model space.

        ``x`` may have a gradient, which passes through. A tensor that the network cannot take is a ``UserError``.
        """
        ...


Axis = Annotated[int, Field(ge=1, le=100_000)]


class ClassifierFile(BaseModel):
    """``classifier.json``: what the classifier takes, and whence it comes.

    ``shape``: (C, *spatial) of what it was trained on. ``modality``, ``data``: with their settings. ``accuracy``: share of
    held-out items that it names rightly, with how many there were.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    format: int = FORMAT
    shape: Annotated[tuple[Axis, ...], Field(min_length=2, max_length=4)]
    classes: int = Field(ge=1, le=1_000_000)
    modality: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    accuracy: float | None = None
    heldout: int = 0


class TrainedClassifier(nn.Module):
    """The features of a classifier that ``cmmulti classifier`` trained: entry point ``classifier``.

    Args:
        path: its folder.

    Raises:
        UserError: the folder is not there, or its files are not what it expects.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self.about = read_about(self.path)
        with torch.device("meta"):
            wanted = shapes_of(Classifier(self.about.shape, self.about.classes))
        state = read_weights(self.path / WEIGHTS, wanted)
        self.classifier = Classifier(self.about.shape, self.about.classes)
        self.classifier.load_state_dict(state)

    def layers(self, x: Tensor) -> Sequence[Tensor]:
        channels, dims = self.about.shape[0], len(self.about.shape) - 1
        if x.shape[1] != channels or x.dim() - 2 != dims:
            told = f"tensors of shape {tuple(x.shape[1:])}; it was trained on {self.about.shape}"
            raise UserError(f"{self.path}: a classifier of {self.about.data.get('name')} does not take {told}")
        return self.classifier.layers(x)


def read_about(folder: Path) -> ClassifierFile:
    """``classifier.json`` of a folder.

    Raises:
        UserError: there is none, or it is not one.
    """
    path = folder / CONFIG
    raw = read_json(path, "what `cmmulti classifier` wrote", LARGEST_CONFIG)
    about = checked(ClassifierFile, raw, str(path))
    if about.format != FORMAT:
        raise UserError(f"{path}: format {about.format}; this version reads format {FORMAT}")
    if prod(about.shape) > MOST_VALUES:
        raise UserError(f"{path}: shape = {list(about.shape)}: expected at most {MOST_VALUES} values")
    return about


def write_classifier(folder: Path, classifier: Classifier, about: ClassifierFile) -> Path:
    """Both files of a folder, each whole or not at all; a new folder does not stay half written.

    Raises:
        UserError: the folder cannot be written.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder / WEIGHTS, classifier, False, FORMAT)
        with replacing(folder / CONFIG) as part:
            part.write_text(json_text(about.model_dump(mode="json")), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        told = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{folder}: cannot write the classifier ({told})") from error
    return folder
