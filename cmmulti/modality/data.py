"""Which data a model learns, and how an adapter hands them over."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from cmmulti.errors import UserError

Item = Any
"""One picture, clip or volume of an adapter's own type."""


class TrainingSet(ABC):
    """Clean model tensors of one split.

    ``labels``: (n,) int64, ``NULL_LABEL`` where there is none. ``names``: where each came from, for error messages.
    ``class_names``: one per label, empty where there are no classes. ``licence``: of the data, an SPDX identifier, or
    ``unknown`` where their source states none; ``attribution``: who made them, as the licence asks for. Both are empty for
    a user's own files. A model's card repeats them.
    """

    labels: Tensor
    names: Sequence[str]
    class_names: Sequence[str] = ()
    licence: str = ""
    attribution: str = ""

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        """(C, *spatial) float32; augmented by draws from ``generator``, as it is when None."""

    @abstractmethod
    def item(self, index: int) -> Item:
        """The item itself, for evaluation."""

    @property
    def files(self) -> Sequence[str]:
        """The file of each item, by which a table of contexts names it; by default ``names``."""
        return self.names

    @property
    def cases(self) -> Sequence[str]:
        """Names of what tasks are evaluated on: every item, unless several of them are one subject's."""
        return self.names

    def case(self, number: int) -> Item:
        """The item that belongs to ``cases[number]``."""
        return self.item(number)


class DataSource(BaseModel):
    """Which data, below ``data:`` in a config: a data set's name or ``folder``, and where it lies.

    ``root``: the folder that holds data sets (or the folder of files itself); None reads ``CMMULTI_DATA``.
    ``on_bad_file``: ``error`` stops at an unreadable file and names it; ``skip`` names it and goes on.
    ``options``: further settings of the data set, checked by the adapter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    root: Path | None = None
    on_bad_file: Literal["error", "skip"] = "error"
    options: Mapping[str, Any] = {}

    def data_root(self) -> Path:
        """``root``, or the folder that ``CMMULTI_DATA`` names.

        Raises:
            UserError: neither names one.
        """
        root = self.root if self.root is not None else os.environ.get("CMMULTI_DATA")
        if not root:
            raise UserError(f"data.root: data set {self.name!r} needs a folder; set data.root or the variable CMMULTI_DATA")
        return Path(root)


Split = Literal["train", "val", "test"]
