"""The linear part of a representation that is affine in the item: ``item = crop(gain * x + offset)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor

from cmmulti.operators.base import LinearOperator


@dataclass(frozen=True)
class Affine:
    """How a model tensor becomes physical values, part by part.

    Args:
        gain, offset: (parts or 1, 1 or C, 1, ...) in physical units.
        size: spatial shape of the physical item. before: where its first element lies in the padded model tensor.
    """

    gain: Tensor
    offset: Tensor
    size: tuple[int, ...]
    before: tuple[int, ...]

    def to_item(self, x: Tensor) -> Tensor:
        """(parts, C, *model) in model space -> (parts, C, *size) in physical units."""
        return self.crop(self.gain.to(x) * x + self.offset.to(x))

    def to_model(self, values: Tensor, model_size: Sequence[int], fill: float) -> Tensor:
        """Physical (parts, C, *size) -> model tensor (parts, C, *model_size); the padding holds ``fill`` (model space)."""
        x = values.new_full((*values.shape[:2], *model_size), fill)
        x[self._window()] = (values - self.offset.to(values)) / self.gain.to(values)
        return x

    def crop(self, x: Tensor) -> Tensor:
        return x[self._window()]

    def inside(self, model_size: Sequence[int]) -> Tensor:
        """(1, 1, *model_size) bool: true where the item is, false in the padding."""
        inside = torch.zeros(1, 1, *model_size, dtype=torch.bool)
        inside[self._window()] = True
        return inside

    def operator(self, domain: Sequence[int]) -> LinearOperator:
        """``crop . gain`` as an operator from a model tensor (C, *model) to (C, *size)."""
        return _CropGain(self, domain)

    def _window(self) -> tuple[EllipsisType | slice[int, int, None], ...]:
        return (..., *(slice(b, b + n) for b, n in zip(self.before, self.size, strict=True)))


class _CropGain(LinearOperator):
    def __init__(self, affine: Affine, domain: Sequence[int]) -> None:
        super().__init__(domain, (domain[0], *affine.size))
        self.affine = affine

    def forward(self, x: Tensor) -> Tensor:
        return self.affine.crop(self.affine.gain.to(x) * x)

    def backward(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *self.domain)
        x[self.affine._window()] = y
        return self.affine.gain.to(y) * x
