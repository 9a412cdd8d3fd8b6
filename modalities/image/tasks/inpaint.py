"""Fill a hole in a picture."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Modality, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.operators.mask import Mask
from cmmulti.problems.base import Noised, Problem
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import SampleRandomness
from modalities.image import files, representation
from modalities.image.picture import Picture
from modalities.image.tasks.common import descending, picture_of
from modalities.image.windows import Windows, around

LARGEST_BIHARMONIC = 2500
"""Most pixels that the biharmonic baseline fills: its time grows with their square."""

Box = tuple[int, int, int, int]


def _split(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


class InpaintOptions(TaskOptions):
    """The hole, in one of two ways, and where to start."""

    mask: Path | None = Field(None, description="opaque PNG of the input's size; the hole is where it is not zero")
    box: Annotated[Box | None, BeforeValidator(_split)] = Field(
        None, description="x0,y0,x1,y1 in pixels from the top left corner; x1 and y1 are just outside"
    )
    start_level: float = Field(0.8, gt=0, description="first noise level: how far the fill may go from plain grey")


class Inpaint(Task):
    """Pixels outside the hole come back in their stored integers; what lay in it has no influence.

    The model sees windows of its own size around the holes. A hole too large for one is filled in a reduced picture.
    """

    name = "inpaint"
    verb = "edit"
    summary = "fill a hole, given as a mask or a box"
    Options = InpaintOptions

    def prepare(self, modality: Modality, source: Path | Picture, options: InpaintOptions, model: Model) -> Assignment:
        picture = picture_of(source)
        hole = hole_of(picture, options)
        side = modality.settings.size
        notes = [] if hole.any() else ["the hole is empty: the picture is returned as it was"]
        factor, (windows, owner) = planned(hole, side)
        x_small, hole_small = reduced(modality.encode(picture), hole, factor)
        if factor > 1:
            notes.append(
                f"the hole is larger than this model's window of {side[1]} x {side[0]} pixels: "
                f"it was filled at 1/{factor} of the resolution and enlarged"
            )
        elif picture.size != side and hole.any():
            notes.append(f"filled through {len(windows.corners)} window(s) of this model's {side[1]} x {side[0]} pixels")
        y, known = windows.cut(x_small), known_part(windows, hole_small)

        def finish(parts: Tensor, randomness: SampleRandomness) -> Picture:
            filled = windows.put(parts, owner, x_small)
            if factor > 1:
                filled = enlarged(filled, factor, picture.size)
            return with_hole(picture, hole, representation.stored(filled, picture.white, picture.channels))

        return Assignment(
            shape=tuple(y.shape),
            finish=finish,
            problem=Problem(Mask(known, modality.shape), y, 0.0, Replacement(), representation.VALID_RANGE),
            start=Noised(y),
            levels=descending(min(options.start_level, model.sigma_max)),
            panels={"input": picture},
            mark=hole,
            baselines=_baselines(picture, hole),
            notes=tuple(notes),
        )


def hole_of(picture: Picture, options: InpaintOptions) -> NDArray[np.bool_]:
    """(H, W) bool, true where the picture is to be filled."""
    height, width = picture.size
    if (options.mask is None) == (options.box is None):
        raise UserError("inpaint: expected one of mask and box, got " + ("both" if options.mask else "neither"))
    if options.mask is not None:
        mask = files.load(options.mask)
        if mask.format != "PNG":
            raise UserError(f"{options.mask}: a mask must be PNG; the noise of {mask.format} would mark pixels")
        if mask.size != picture.size:
            got = f"{mask.size[1]} x {mask.size[0]}"
            raise UserError(f"{options.mask}: {got} pixels; expected those of the picture, {width} x {height}")
        if mask.alpha is not None and (mask.alpha != mask.white).any():
            raise UserError(f"{options.mask}: partly transparent; expected a mask whose hole is where its colour is not 0")
        return np.asarray((mask.array != 0).any(2))
    x0, y0, x1, y1 = options.box or (0, 0, 0, 0)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise UserError(
            f"box = {x0},{y0},{x1},{y1}: expected x0,y0,x1,y1 with 0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}"
        )
    hole = np.zeros(picture.size, dtype=bool)
    hole[y0:y1, x0:x1] = True
    return hole


def planned(hole: NDArray[np.bool_], side: tuple[int, int]) -> tuple[int, tuple[Windows, NDArray[np.int64]]]:
    """The smallest whole reduction at which every hole fits into a window, and those windows."""
    for factor in count(1):
        found = around(reduced_hole(hole, factor), side)
        if found is not None:
            return factor, found
    raise AssertionError("a picture reduced to one pixel fits into any window")


def known_part(windows: Windows, hole: NDArray[np.bool_]) -> Tensor:
    """(windows, 1, *side) bool: true where a window shows a known pixel of the picture."""
    return windows.cut(torch.from_numpy(~hole)[None, None].float()) > 0


def reduced(x: Tensor, hole: NDArray[np.bool_], factor: int) -> tuple[Tensor, NDArray[np.bool_]]:
    """Block means of (1, C, H, W), 0 wherever a block touches the hole; and the hole on that grid."""
    small = reduced_hole(hole, factor)
    pad = [-n % factor for n in hole.shape]
    padded = torch.nn.functional.pad(x, (0, pad[1], 0, pad[0]), mode="replicate") if any(pad) else x
    return torch.nn.functional.avg_pool2d(padded, factor) * torch.from_numpy(~small), small


def reduced_hole(hole: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """The blocks of ``factor`` pixels per side that touch the hole."""
    wide = np.pad(hole, [(0, -n % factor) for n in hole.shape], mode="edge")
    blocks = wide.reshape(wide.shape[0] // factor, factor, wide.shape[1] // factor, factor)
    return np.asarray(blocks.any((1, 3)))


def enlarged(x: Tensor, factor: int, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w) enlarged by ``factor`` with Lanczos' filter and cut to (1, C, *size)."""
    target = (x.shape[2] * factor, x.shape[3] * factor)
    planes = [representation.resize_plane(plane.numpy(), target) for plane in x[0]]
    return torch.from_numpy(np.stack(planes))[None, :, : size[0], : size[1]]


def with_hole(picture: Picture, hole: NDArray[np.bool_], fill: NDArray[np.unsignedinteger]) -> Picture:
    """The picture with the pixels of ``fill`` in its hole and no other touched."""
    return picture.holding(np.where(hole[..., None], fill, picture.array))


def _baselines(picture: Picture, hole: NDArray[np.bool_]) -> dict[str, Any]:
    def mean() -> Picture:
        known = picture.array[~hole]
        value = known.mean(0) if len(known) else np.full(picture.channels, picture.white / 2)
        return with_hole(picture, hole, np.broadcast_to(np.rint(value), picture.array.shape).astype(picture.array.dtype))

    def nearest() -> Picture:
        from scipy.ndimage import distance_transform_edt

        rows, columns = distance_transform_edt(hole, return_distances=False, return_indices=True)
        return with_hole(picture, hole, picture.array[rows, columns])

    def biharmonic() -> Picture:
        from skimage.restoration import inpaint_biharmonic

        blank = np.where(hole[..., None], 0, picture.array) / picture.white
        filled = np.clip(inpaint_biharmonic(blank, hole, channel_axis=-1), 0, 1) * picture.white
        return with_hole(picture, hole, np.rint(filled).astype(picture.array.dtype))

    made: dict[str, Any] = {"mean": mean}
    if hole.any() and not hole.all():
        made["nearest"] = nearest
        if hole.sum() <= LARGEST_BIHARMONIC:
            made["biharmonic"] = biharmonic
    return made
