"""A measured stack of slices beside a model's: which axes are which, and the way between both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from nibabel import orientations
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.operators.base import LinearOperator
from cmmulti.operators.permutation import Permutation
from cmmulti.operators.resample import Resample
from modalities.volume import representation
from modalities.volume.geometry import AXES
from modalities.volume.item import Array, Kind, Stated, Volume
from modalities.volume.settings import VolumeSettings

LEAST, MOST = 0.5, 1.5
"""How small and large a measured field of view may be, relative to the model's."""


@dataclass(frozen=True)
class Stack:
    """Pictures (rows, columns) of a stack of slices, as they were measured.

    Args:
        size: (rows, columns, slices). affine: (4, 4) of these axes. settings: the model's.
        resample: let the model work on pixels of its own where the measured ones are not within its tolerance.
        stated: how much of the affine the measurement's file says.
    """

    size: tuple[int, int, int]
    affine: Array
    settings: VolumeSettings
    resample: bool = False
    stated: Stated = "affine"

    @cached_property
    def blank(self) -> Volume:
        """A scan of this geometry."""
        return Volume(np.broadcast_to(np.uint8(0), self.size), self.affine, placed=self.stated == "affine")

    def check(self, name: str, kind: Kind) -> None:
        """Refuse a stack that the model cannot see.

        Raises:
            UserError: a 3D model, another kind of scan, plane, spacing or field of view; with the numbers of both.
        """
        s = self.settings
        if s.dims != 2 or s.kind != kind:
            raise UserError(f"{name}: needs a 2D {kind.upper()} model; this one is a {s.dims}D {s.kind.upper()} model")
        if slice_axis(self.affine, s) != 2:
            told = (
                f"its affine says that the slices are not {s.plane}; expected the model's plane"
                if self.stated == "affine"
                else f"it has no affine, and slices without one are taken as axial; the model's are {s.plane}"
            )
            raise UserError(f"{name}: {told}")
        if not self.resample and self.stated == "nothing":
            advice = "it states no voxel size, and 1 mm was assumed: give it affine or voxel_mm"
            representation.check_spacing(self.blank, s, name, advice)
        elif not self.resample:
            representation.check_spacing(self.blank, s, name)
        view = [n * mm for n, mm in zip(self.size, self.blank.voxel_mm, strict=True)][:2]
        if self.turned:
            view.reverse()
        if any(not LEAST <= a / b <= MOST for a, b in zip(view, s.field_of_view_mm, strict=True)):
            measured, model = (" x ".join(f"{v:.0f}" for v in views) for views in (view, s.field_of_view_mm))
            raise UserError(
                f"{name}: a field of view of {measured} mm, but the model was trained on {model} mm; "
                f"expected {LEAST:g} to {MOST:g} times that"
            )

    @property
    def turned(self) -> bool:
        """Whether a measured picture's rows and columns are the columns and rows of the model's slices."""
        return representation.layout(self.blank, self.settings).apply(np.zeros((2, 3, 1))).shape[1] == 3

    @cached_property
    def slices(self) -> Tensor:
        """(parts,) int64: the measured slice that each part of the representation is."""
        stored = np.broadcast_to(np.arange(self.size[2]), self.size)
        return torch.from_numpy(representation.layout(self.blank, self.settings).apply(stored)[:, 0, 0].copy())

    @cached_property
    def order(self) -> Permutation:
        """From a slice (1, *size) in the order of the model's axes to the measured picture (1, rows, columns)."""
        rows, columns, _ = self.size
        stored = np.arange(rows * columns).reshape(rows, columns, 1)
        there = torch.from_numpy(representation.layout(self.blank, self.settings).apply(stored)[0].copy())
        return Permutation((1, *there.shape), torch.argsort(there.flatten()).view(rows, columns))

    @cached_property
    def resampling(self) -> Resample | None:
        """From the model's pixels to the measured ones over the same field of view, both in the order of the model's axes;
        None where the model sees the measured pixels themselves."""
        if not self.resample or representation.spacing_fits(self.blank, self.settings):
            return None
        there, mm = self.order.domain[1:], representation.layout(self.blank, self.settings).voxel_mm()[1:]
        here = [max(1, round(n * a / b)) for n, a, b in zip(there, mm, self.settings.voxel_mm, strict=True)]
        # Cubic: its range holds scans more closely than the linear kernel's, with far less overshoot below air.
        return Resample((1, *here), there, "cubic")

    @cached_property
    def arrangement(self) -> LinearOperator:
        """From a part's values (1, *size) on the model's pixels to the measured picture (1, rows, columns)."""
        return self.order if self.resampling is None else self.order @ self.resampling

    def parts(self, pictures: Tensor) -> Tensor:
        """The values on the model's pixels (parts, 1, *size) that come closest to measured pictures (parts, 1, rows,
        columns), least squares; the smallest of them where there are several."""
        ordered = self.order.adjoint(pictures)
        return ordered if self.resampling is None else self.resampling.pinv(ordered)

    def detail(self, pictures: Tensor) -> Tensor:
        """What of measured pictures (parts, 1, rows, columns) the model's pixels cannot hold: nothing where it sees the
        measured ones themselves."""
        return pictures - self.arrangement(self.parts(pictures))

    def volume(self, pictures: Tensor, like: Volume | None) -> Volume:
        """Measured pictures in the order of the parts (parts, 1, rows, columns) as a scan: on the grid of ``like``, the
        scan that was measured in a simulation, or on the stack's own."""
        values = representation.from_parts(self.order.adjoint(pictures), self.blank, self.settings)
        if like is None:
            return self.blank.with_values(values)
        return like.with_values(np.moveaxis(values, 2, slice_axis(like.affine, self.settings)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of a result should know."""
        if self.resampling is None:
            return ()
        rows, columns, _ = self.blank.voxel_mm
        own = " x ".join(f"{v:.3g}" for v in self.settings.voxel_mm)
        return (
            f"measured pixels of {rows:.3g} x {columns:.3g} mm: the model worked on its own, {own} mm; what it made was "
            "interpolated to the measured ones, and finer detail is that of total variation",
        )


def covering_size(affine: Array, settings: VolumeSettings) -> tuple[int, int]:
    """(rows, columns) of a measured picture that covers what the model sees: its own size where the pixels are its own."""
    one = Stack((1, 1, 1), affine, settings)
    rows, columns = settings.size[-2:]
    if not representation.spacing_fits(one.blank, settings):
        mm = representation.layout(one.blank, settings).voxel_mm()[1:]
        rows, columns = (
            max(1, round(n * b / a)) for n, b, a in zip(settings.size[-2:], settings.voxel_mm[-2:], mm, strict=True)
        )
    return (columns, rows) if one.turned else (rows, columns)


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
