"""A measured stack of slices beside a model's: which axes are which, and the way between both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from nibabel import orientations
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.operators.permutation import Permutation
from modalities.volume import representation
from modalities.volume.geometry import AXES
from modalities.volume.item import Array, Kind, Volume
from modalities.volume.settings import VolumeSettings

LEAST, MOST = 0.5, 1.5
"""How small and large a measured field of view may be, relative to the model's."""


@dataclass(frozen=True)
class Stack:
    """Pictures (rows, columns) of a stack of slices, as they were measured.

    Args:
        size: (rows, columns, slices). affine: (4, 4) of these axes. settings: the model's.
    """

    size: tuple[int, int, int]
    affine: Array
    settings: VolumeSettings

    @cached_property
    def blank(self) -> Volume:
        """A scan of this geometry."""
        return Volume(np.broadcast_to(np.uint8(0), self.size), self.affine)

    def check(self, name: str, kind: Kind) -> None:
        """Refuse a stack that the model cannot see.

        Raises:
            UserError: a 3D model, another kind of scan, plane, spacing or field of view; with the numbers of both.
        """
        s = self.settings
        if s.dims != 2 or s.kind != kind:
            raise UserError(f"{name}: needs a 2D {kind.upper()} model; this one is a {s.dims}D {s.kind.upper()} model")
        if slice_axis(self.affine, s) != 2:
            raise UserError(f"{name}: its affine says that the slices are not {s.plane}; expected the model's plane")
        representation.check_spacing(self.blank, s)
        view = [n * mm for n, mm in zip(self.size, self.blank.voxel_mm, strict=True)][:2]
        if representation.layout(self.blank, s).apply(np.zeros((2, 3, 1))).shape[1] == 3:
            view.reverse()
        if any(not LEAST <= a / b <= MOST for a, b in zip(view, s.field_of_view_mm, strict=True)):
            measured, model = (" x ".join(f"{v:.0f}" for v in views) for views in (view, s.field_of_view_mm))
            raise UserError(
                f"{name}: a field of view of {measured} mm, but the model was trained on {model} mm; "
                f"expected {LEAST:g} to {MOST:g} times that"
            )

    @cached_property
    def slices(self) -> Tensor:
        """(parts,) int64: the measured slice that each part of the representation is."""
        stored = np.broadcast_to(np.arange(self.size[2]), self.size)
        return torch.from_numpy(representation.layout(self.blank, self.settings).apply(stored)[:, 0, 0].copy())

    @cached_property
    def arrangement(self) -> Permutation:
        """From a part's values (1, *size of the model's slice) to the measured picture (1, rows, columns)."""
        rows, columns, _ = self.size
        stored = np.arange(rows * columns).reshape(rows, columns, 1)
        there = torch.from_numpy(representation.layout(self.blank, self.settings).apply(stored)[0].copy())
        return Permutation((1, *there.shape), torch.argsort(there.flatten()).view(rows, columns))

    def volume(self, parts: Tensor, like: Volume | None) -> Volume:
        """Values of parts (parts, 1, *size of the model's slice) as a scan: on the grid of ``like``, the scan that was
        measured in a simulation, or on the stack's own."""
        values = representation.from_parts(parts, self.blank, self.settings)
        if like is None:
            return self.blank.with_values(values)
        return like.with_values(np.moveaxis(values, 2, slice_axis(like.affine, self.settings)))

    def volume_of_pictures(self, pictures: Tensor, like: Volume | None) -> Volume:
        """The same of measured pictures in the order of the parts (parts, 1, rows, columns)."""
        return self.volume(self.arrangement.adjoint(pictures), like)


def slice_axis(affine: Array, settings: VolumeSettings) -> int:
    """Which stored axis runs across the slices of the model's plane."""
    wanted = orientations.axcodes2ornt(AXES[settings.plane])
    to_model = orientations.ornt_transform(orientations.io_orientation(affine), wanted)
    return int(np.argmin(to_model[:, 0]))


def slices_last(volume: Volume, settings: VolumeSettings) -> tuple[Array, Array]:
    """Values (rows, columns, slices) of a scan stored in any order, and the affine of these axes."""
    axis = slice_axis(volume.affine, settings)
    order = [*(a for a in range(3) if a != axis), axis]
    affine = volume.affine.copy()
    affine[:, :3] = volume.affine[:, order]
    return volume.values().transpose(order), affine
