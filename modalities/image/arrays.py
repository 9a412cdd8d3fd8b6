"""Pictures of one size held in memory as stored integers: what every data set of pictures becomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from cmmulti.conditioning import NULL_LABEL
from cmmulti.errors import UserError
from cmmulti.modality import DataSource, Split, TrainingSet
from modalities.image import representation
from modalities.image.picture import Picture


class PictureArray(TrainingSet):
    """One split.

    Args:
        array: (n, H, W, C) uint8 or uint16. labels: (n,) classes, or None. names: where each came from.
        class_names: one per class. flip: mirror left and right with probability 1/2 while training.
    """

    def __init__(
        self,
        array: NDArray[np.unsignedinteger],
        labels: NDArray[np.int64] | None,
        names: Sequence[str],
        class_names: Sequence[str] = (),
        flip: bool = False,
    ) -> None:
        self.array, self.names, self.class_names, self.flip = array, list(names), tuple(class_names), flip
        known = np.full(len(array), NULL_LABEL) if labels is None else labels
        self.labels = torch.from_numpy(np.asarray(known, dtype=np.int64))

    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        x = representation.encode(self.item(index), self.array.shape[3])[0]
        if self.flip and generator is not None and bool(torch.rand((), generator=generator) < 0.5):
            x = x.flip(-1)
        return x

    def unlabelled(self) -> PictureArray:
        """The same pictures, of no class."""
        return PictureArray(self.array, None, self.names, (), self.flip)

    def item(self, index: int) -> Picture:
        return Picture(self.array[index])


class SplitOptions(BaseModel):
    """Options of every data set: ``flip`` mirrors training pictures at random, ``split_seed`` draws the parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    flip: bool = False
    split_seed: int = Field(0, ge=0)


def data_root(source: DataSource) -> Path:
    """The folder or archive of a data set.

    Raises:
        UserError: none is named, or there is none of that name.
    """
    root = source.data_root()
    if not root.exists():
        raise UserError(f"data.root: {root} does not exist; expected the folder that holds data set {source.name}")
    return root


def distinct(array: NDArray[np.unsignedinteger], not_in: set[bytes] | None = None) -> NDArray[np.int64]:
    """Indices of the first of each group of equal pictures, leaving out those in ``not_in`` (and adding what is kept)."""
    seen = set() if not_in is None else not_in
    kept = []
    for i, picture in enumerate(array):
        content = picture.tobytes()
        if content not in seen:
            seen.add(content)
            kept.append(i)
    return np.array(kept, dtype=np.int64)


def divide(n: int, seed: int, val: float, test: float) -> dict[Split, NDArray[np.int64]]:
    """Indices 0..n-1 in three seeded parts, each in rising order; ``val`` and ``test`` are fractions."""
    order = np.random.default_rng(seed).permutation(n)
    first, second = round(n * test), round(n * (test + val))
    parts: dict[Split, NDArray[np.int64]] = {"test": order[:first], "val": order[first:second], "train": order[second:]}
    return {name: np.sort(part) for name, part in parts.items()}
