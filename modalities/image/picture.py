"""The item of this modality: one picture in its stored integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmmulti.errors import UserError
from cmmulti.operators.channels import LUMA

GREY = np.array(LUMA) / sum(LUMA)
"""Weights of red, green and blue in a grey value, with the sum 1."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture.

    Args:
        array: (H, W, 1 or 3), uint8 or uint16: grey or RGB as stored, 0 is black.
        alpha: (H, W) of the same type, or None. It is carried along untouched; no model sees it.
        format: of the file it came from, ``PNG`` or ``JPEG``. path: that file, None where there is none.
        profile: the embedded ICC colour profile, written back with the picture.
    """

    array: NDArray[np.unsignedinteger]
    alpha: NDArray[np.unsignedinteger] | None = None
    format: str = "PNG"
    path: Path | None = None
    profile: bytes | None = None

    def __post_init__(self) -> None:
        a = self.array
        if a.ndim != 3 or a.shape[2] not in (1, 3) or a.dtype not in (np.uint8, np.uint16) or a.size == 0:
            raise UserError(
                f"{self.name}: expected a picture (height, width, 1 or 3) of uint8 or uint16, got {a.shape} of {a.dtype}"
            )

    @property
    def name(self) -> str:
        """For messages: the file, or that there is none."""
        return str(self.path) if self.path is not None else "picture"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.array.shape[0], self.array.shape[1]

    @property
    def channels(self) -> int:
        return int(self.array.shape[2])

    @property
    def white(self) -> int:
        """The largest value of its type: 255 or 65535."""
        return int(np.iinfo(self.array.dtype).max)

    def holding(self, array: NDArray[np.unsignedinteger]) -> Picture:
        """The same picture with other pixels of the same size."""
        return replace(self, array=array)

    def grey(self) -> NDArray[np.float64]:
        """(H, W) grey values on 0..white."""
        a = self.array.astype(np.float64)
        return a[..., 0] if self.channels == 1 else a @ GREY
