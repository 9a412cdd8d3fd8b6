"""A volume as it is stored: numbers, geometry and header, so that it can be written back unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Kind = Literal["mr", "ct"]
Stated = Literal["affine", "voxel_mm", "nothing"]
"""What a measurement's file says of its geometry: all of it, the size of the voxels alone, or nothing (then 1 mm)."""
Array = NDArray[Any]


@dataclass(frozen=True)
class Volume:
    """One scan.

    Args:
        data: (I, J, K) stored numbers in their stored dtype; physical value = ``data * slope + inter`` (CT: HU).
        affine: (4, 4) float64, voxel index -> world mm, RAS+ (x to the right, y to the front, z to the head).
        slope, inter: of the stored numbers.
        kind: ``mr`` or ``ct`` where the file says so, else None.
        header: the NIfTI header it came with (codes, units, description, extensions); None for other sources.
        trailing: further axes of length 1 that the file has, such as (1,) for a shape of (I, J, K, 1).
        source: the file or files it came from.
        notes: what the reader of a result should know.
        placed: whether the source states the affine; else its place in the world is made up.
    """

    data: Array
    affine: Array
    slope: float = 1.0
    inter: float = 0.0
    kind: Kind | None = None
    header: Any = None
    trailing: tuple[int, ...] = ()
    source: tuple[Path, ...] = ()
    notes: tuple[str, ...] = field(default=())
    placed: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def voxel_mm(self) -> Array:
        """Spacing along the three stored axes, mm."""
        return nib.affines.voxel_sizes(self.affine)

    def values(self) -> Array:
        """Physical values, float32, in stored order."""
        if self.slope == 1 and self.inter == 0:
            return self.data.astype(np.float32)
        return (self.data * np.float64(self.slope) + np.float64(self.inter)).astype(np.float32)

    def part(self, window: tuple[slice, ...]) -> Volume:
        """The scan inside a window of stored indices, where it lies in the world."""
        affine = self.affine.copy()
        affine[:3, 3] = nib.affines.apply_affine(self.affine, [part.start for part in window])
        return replace(self, data=self.data[window], affine=affine)

    def with_values(self, values: Array) -> Volume:
        """The same scan with other physical values, stored as float32."""
        return replace(self, data=np.asarray(values, np.float32), slope=1.0, inter=0.0)

    def with_replaced(self, where: Array, values: Array) -> Volume:
        """The same scan with physical ``values`` where ``where`` is true, in the stored dtype: rounded and clipped, never
        wrapped. Every other stored number is kept bit for bit."""
        stored = (np.asarray(values, np.float64)[where] - self.inter) / self.slope
        if np.issubdtype(self.data.dtype, np.integer):
            limits = np.iinfo(self.data.dtype)
            # The float nearest to a 64-bit limit may lie beyond it.
            top = np.nextafter(float(limits.max), 0) if self.data.dtype.itemsize == 8 else float(limits.max)
            stored = np.clip(np.rint(stored), float(limits.min), top)
        data = self.data.copy()
        data[where] = stored.astype(self.data.dtype)
        return replace(self, data=data)
