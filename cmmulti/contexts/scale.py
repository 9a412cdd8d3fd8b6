"""From contexts in the user's own units to what a network is told, and what a model keeps for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from cmmulti.contexts.table import ContextTable, read_contexts
from cmmulti.errors import UserError

Context = Mapping[str, float] | str | Path | ArrayLike
"""Contexts as a user gives them: numbers by column, a file of contexts, or (tokens, features) or (n, tokens, features)."""

SMALLEST = 1e-6
"""A feature that deviates by less than this share of its mean is constant."""


class ContextScale(BaseModel):
    """``context`` of a model's ``config.json``: what its contexts are, and how they come to one scale.

    A network is told ``(value - mean) / deviation`` of each feature, measured on the training part, and one feature more,
    which is 1: no context is all zeros there, and must differ from an average one.

    ``names``: of the columns, empty where contexts are arrays. ``tokens``: of each context. ``mean``, ``deviation``: of
    each feature, over items and tokens.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    names: tuple[str, ...] = ()
    tokens: int = Field(1, ge=1)
    mean: tuple[float, ...] = Field(min_length=1)
    deviation: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _of_one_length(self) -> ContextScale:
        n = len(self.mean)
        if len(self.deviation) != n or (self.names and (len(self.names), self.tokens) != (n, 1)):
            raise ValueError("context: expected a mean and a deviation for each feature, and one token of named columns")
        if min(self.deviation) <= 0:
            raise ValueError(f"context: expected deviations above 0, got {min(self.deviation)}")
        return self

    @classmethod
    def measured(cls, table: ContextTable, contexts: Sequence[NDArray[np.floating]]) -> ContextScale:
        """Of the contexts of a training part, each (tokens, features).

        Raises:
            UserError: a column of the table is constant there.
        """
        rows = sum(len(context) for context in contexts)
        mean = sum(context.sum(0, dtype=np.float64) for context in contexts) / rows
        variance = sum(((context - mean) ** 2).sum(0) for context in contexts) / rows
        deviation = np.sqrt(variance)
        constant = deviation <= SMALLEST * np.abs(mean)
        if table.names and constant.any():
            name = table.names[int(constant.argmax())]
            raise UserError(f"{table.path}: column {name!r} is constant on the training part; expected one that varies")
        deviation[constant] = 1.0
        return cls(
            names=table.names,
            tokens=len(contexts[0]),
            # A mean may be a million times its deviation and is told to a millionth of that.
            mean=tuple(float(f"{v:.12g}") for v in mean),
            deviation=tuple(float(f"{v:.6g}") for v in deviation),
        )

    @property
    def width(self) -> int:
        """Features of a token as the network is told it."""
        return len(self.mean) + 1

    @property
    def described(self) -> str:
        """In words, for cards and error messages."""
        return ", ".join(self.names) if self.names else f"arrays of {self.tokens} tokens x {len(self.mean)} features"

    def told(self, contexts: Sequence[NDArray[np.floating]]) -> Tensor:
        """(n, tokens, width) float32 of n contexts in plain units, each (tokens, features)."""
        mean, deviation = np.array(self.mean), np.array(self.deviation)
        out = torch.ones(len(contexts), self.tokens, self.width)
        for i, context in enumerate(contexts):
            out[i, :, :-1] = torch.from_numpy((context - mean) / deviation)
        return out

    def of_table(self, table: ContextTable, contexts: Sequence[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
        """``contexts`` of a table with its columns in the order of this scale.

        Raises:
            UserError: other columns, or arrays of another shape.
        """
        shape = contexts[0].shape
        if sorted(table.names) != sorted(self.names) or shape != (self.tokens, len(self.mean)):
            told = ", ".join(table.names) or f"arrays of {shape[0]} tokens x {shape[1]} features"
            raise UserError(f"{table.path}: contexts of {told}; expected {self.described}")
        order = [table.names.index(name) for name in self.names]
        return [context[:, order] for context in contexts] if order else list(contexts)

    def given(self, context: Context) -> Tensor:
        """(m, tokens, width) of what a user gives, :data:`Context`, checked: m is 1 but for files and stacked arrays.

        Raises:
            UserError: naming the column or file, the value and what was expected.
        """
        if isinstance(context, Mapping):
            told = self.told([self._named(context)])
        elif isinstance(context, (str, Path)):
            table = read_contexts(Path(context))
            told = self.told(self.of_table(table, list(table.entries.values())))
        else:
            told = self.told(self._stacked(context))
        if not bool(told.isfinite().all()):
            raise UserError("context: holds a number that is not finite, or beyond what the network takes")
        return told

    def _named(self, values: Mapping[str, float]) -> NDArray[np.floating]:
        if sorted(values) != sorted(self.names):
            told = ", ".join(map(str, values)) or "nothing"
            raise UserError(f"context: got {told}; expected {self.described}")
        return np.array([[float(values[name]) for name in self.names]])

    def _stacked(self, context: Any) -> list[NDArray[np.floating]]:
        try:
            array = np.asarray(context, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(f"context: expected {self.described}, got {type(context).__name__}") from error
        array = array if array.ndim == 3 else array[None]
        if array.shape[1:] != (self.tokens, len(self.mean)) or not len(array):
            raise UserError(f"context: got an array of shape {array.shape[1:]}; expected {self.described}")
        return list(array)
