"""A scan on another voxel size and back; what is hidden takes no part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy

from modalities.volume.geometry import Layout
from modalities.volume.item import Array, Volume
from modalities.volume.settings import VolumeSettings

AIR_HU = -1000.0


@dataclass(frozen=True)
class Resampling:
    """From a scan's grid to one of the model's spacing with the same axes and centre, and back.

    Args:
        volume: the scan. ratio: (3,) new spacing over old, per stored axis (1: left as it is). shape: of the new grid.
        floor: what lies below is taken as this (CT: padding below air has no meaning), None for no limit.
    """

    volume: Volume
    ratio: Array
    shape: tuple[int, int, int]
    floor: float | None = None

    @classmethod
    def to_model(cls, volume: Volume, settings: VolumeSettings) -> Resampling:
        """To the model's voxels, in the plane of a 2D model, in all three axes of a 3D model."""
        layout = Layout(volume.affine, settings.plane)
        ratio = np.ones(3)
        ratio[3 - settings.dims :] = np.array(settings.voxel_mm) / layout.voxel_mm()[3 - settings.dims :]
        stored = layout.to_stored(ratio)
        i, j, k = (max(1, round(n / r)) for n, r in zip(volume.shape, stored, strict=True))
        return cls(volume, stored, (i, j, k), AIR_HU if settings.kind == "ct" else None)

    def forward(self, known: Array | None = None) -> tuple[Volume, Array]:
        """The scan on the new grid, float32, and which of its voxels are known, (I', J', K') bool.

        Every new voxel is a weighted mean of the old ones that are ``known`` (all when None): linear interpolation after
        a Gaussian where the grid gets coarser; it is known where those make up more than half of its weight.
        """
        weight = np.ones(self.volume.shape, np.float32) if known is None else known.astype(np.float32)
        values = self.volume.values()
        if self.floor is not None:
            values = np.maximum(values, self.floor)
        share = self._coarser(weight)
        summed = self._coarser(values * weight)
        seen = share > 0.5
        out = np.divide(summed, share, out=np.zeros_like(summed), where=seen)
        affine = self.volume.affine.copy()
        affine[:3, :3] *= self.ratio
        affine[:3, 3] = (self.volume.affine @ np.append(self._origin(), 1))[:3]
        return replace(self.volume.with_values(out), affine=affine), seen

    def backward(self, values: Array, where: Array) -> Array:
        """Values on the new grid, linearly interpolated at the old voxels ``where`` (I, J, K) is true; 0 elsewhere."""
        index = np.argwhere(where).T
        at = (index - self._origin()[:, None]) / self.ratio[:, None]
        out = np.zeros(where.shape, np.float32)
        out[where] = scipy.ndimage.map_coordinates(values.astype(np.float32), at, order=1, mode="nearest")
        return out

    def _coarser(self, values: Array) -> Array:
        width = np.maximum(0, (self.ratio - 1) / 2)
        smooth = scipy.ndimage.gaussian_filter(values, width, mode="nearest") if (width > 0).any() else values
        return scipy.ndimage.affine_transform(
            smooth, self.ratio, self._origin(), output_shape=self.shape, order=1, mode="nearest", output=np.float32
        )

    def _origin(self) -> Array:
        """Where the first new voxel lies, in old indices: both grids have one centre."""
        return (np.array(self.volume.shape) - 1) / 2 - (np.array(self.shape) - 1) / 2 * self.ratio
