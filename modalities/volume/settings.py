"""What a model of volumes was trained for; travels with the model and stands in its card."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cmmulti.modality import ModalitySettings
from modalities.volume.geometry import Plane
from modalities.volume.item import Kind


class VolumeSettings(ModalitySettings):
    """Kind of scan, plane, grid and intensity rule of a model.

    Representation: MR ``x = 2 v / p - 1`` with p the ``percentile`` of the scan's non-zero voxels, so that air is -1 and
    most tissue below 1; CT ``x = 2 (HU - low) / (high - low) - 1``. Both are clamped to :attr:`valid_range`.
    """

    kind: Kind = Field("mr", description="mr: percentile normalisation; ct: Hounsfield window")
    dims: Literal[2, 3] = Field(2, description="2: a model of slices; 3: of whole volumes")
    plane: Plane = Field("axial", description="which slices a 2D model sees; a 3D model takes axial order")
    size: tuple[int, ...] = Field((120, 96), description="(rows, columns) or (slices, rows, columns) of the tensor")
    voxel_mm: tuple[float, ...] = Field((2.0, 2.0), description="spacing along each axis of `size`")
    tolerance: float = Field(0.15, gt=0, lt=1, description="relative difference in spacing that is accepted unresampled")
    percentile: float = Field(99.5, gt=50, le=100, description="MR: of the non-zero voxels, mapped to 1")
    window: tuple[float, float] = Field((-1000.0, 1000.0), description="CT: HU mapped to -1 and 1")

    @model_validator(mode="after")
    def _fits(self) -> VolumeSettings:
        for name in ("size", "voxel_mm"):
            values = getattr(self, name)
            if len(values) != self.dims or any(not 0 < v < 1e5 for v in values):
                raise ValueError(f"{name}: expected {self.dims} positive numbers for dims {self.dims}, got {list(values)}")
        if self.dims == 3 and self.plane != "axial":
            raise ValueError(f"plane: a 3D model takes axial order, got {self.plane!r}")
        if self.window[1] <= self.window[0]:
            raise ValueError(f"window: expected low < high, got {list(self.window)}")
        return self

    @property
    def field_of_view_mm(self) -> tuple[float, ...]:
        """Extent of the tensor along each axis of ``size``."""
        return tuple(n * v for n, v in zip(self.size, self.voxel_mm, strict=True))

    @property
    def valid_range(self) -> tuple[float, float]:
        """MR: air to four times the percentile (vessels and fat lie above it); CT: the window's low end to 3071 HU."""
        if self.kind == "mr":
            return (-1.0, 7.0)
        low, high = self.window
        return (-1.0, max(1.0, 2 * (3071.0 - low) / (high - low) - 1))
