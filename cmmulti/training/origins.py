"""The models that a run is made from: which weights they had, and on whose terms they may be used."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel

from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.card import head_of
from cmmulti.pipeline.folder import model_folder


class Origin(BaseModel):
    """A model that a student starts from or is taught by.

    ``name``: as the config says it. ``weights``: SHA-256 of its weights' files. ``licence``: what its card's head says.
    """

    name: str
    weights: str
    licence: str = ""


def origin_of(name: str, pipeline: Pipeline) -> Origin:
    """What is kept of ``pipeline``, which was read from the folder or shipped model ``name``."""
    digest = hashlib.sha256()
    for file in pipeline.config.files:
        with (model_folder(name) / file).open("rb") as weights:
            digest.update(hashlib.file_digest(weights, "sha256").digest())
    return Origin(name=name, weights=digest.hexdigest(), licence=stated_licence(pipeline.card))


def stated_licence(card: str) -> str:
    """The ``license`` in the YAML head of a model card, empty where it states none."""
    told = head_of(card).get("license")
    return told if isinstance(told, str) and told != "other" else ""
