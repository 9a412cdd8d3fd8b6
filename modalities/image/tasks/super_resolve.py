"""Make a picture finer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Modality, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.operators.base import LinearOperator
from cmmulti.operators.mask import Mask
from cmmulti.operators.resample import BlockMean
from cmmulti.problems.base import Noised, Problem
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import SampleRandomness
from modalities.image import representation
from modalities.image.picture import Picture
from modalities.image.tasks.common import SIMULATED, descending, measurement_writer, picture_of, transparency_lost
from modalities.image.windows import Windows, covering

HALVINGS = 24
"""Of the range in which a block's shift lies: it is then known to a hundredth of a step of 16 bits."""


class SuperResolveOptions(TaskOptions):
    """How much finer."""

    factor: int = Field(2, ge=2, description="how many times more pixels per side; divides the model's size")
    simulate: bool = Field(False, description="the input is the fine picture: reduce it by the factor first")
    start_level: float = Field(0.3, gt=0, description="first noise level: how far the result may go from where it starts")


class SuperResolve(Task):
    """The result's block means are the input: the coefficients of each block's mean are known, the others are not."""

    name = "super-resolve"
    verb = "edit"
    summary = "make a picture finer by a whole factor"
    Options = SuperResolveOptions

    def prepare(self, modality: Modality, source: Path | Picture, options: SuperResolveOptions, model: Model) -> Assignment:
        picture, factor, side = picture_of(source), options.factor, modality.settings.size
        if side[0] % factor or side[1] % factor:
            raise UserError(f"factor = {factor}: expected a divisor of this model's size, {side[1]} x {side[0]} pixels")
        low = block_means(picture, factor) if options.simulate else picture
        size = (low.size[0] * factor, low.size[1] * factor)
        windows = covering(size, side, grid=factor)
        coarse = Windows(
            low.size,
            (side[0] // factor, side[1] // factor),
            tuple((top // factor, left // factor) for top, left in windows.corners),
        )
        values = modality.encode(low)
        y = coarse.cut(values)
        operator: LinearOperator = BlockMean(modality.shape, factor)
        if not bool(coarse.inside().all()):
            operator = Mask(coarse.inside(), operator.range) @ operator
        whole = BlockMean((values.shape[1], *size), factor)

        def finish(parts: Tensor, randomness: SampleRandomness) -> Picture:
            x = with_means(windows.blend(parts), values, whole)
            return fine(low, representation.stored(x, low.white, low.channels))

        notes = [*([SIMULATED] if options.simulate else []), *transparency_lost(picture)]
        if len(windows.corners) > 1:
            notes.append(f"made in {len(windows.corners)} overlapping windows of this model's {side[1]} x {side[0]} pixels")
        return Assignment(
            shape=(len(y), *modality.shape),
            finish=finish,
            problem=Problem(operator, y, 0.0, Replacement(), representation.VALID_RANGE),
            start=Noised(BlockMean(modality.shape, factor).pinv(y)),
            levels=descending(min(options.start_level, model.sigma_max)),
            panels={"input": low},
            truth=cropped(picture, size) if options.simulate else None,
            baselines={"bicubic": lambda: bicubic(low, factor)},
            measurement=measurement_writer(low) if options.simulate else None,
            notes=tuple(notes),
        )


def with_means(x: Tensor, means: Tensor, blocks: BlockMean) -> Tensor:
    """The nearest to ``x`` (1, C, H, W) with these block means (1, C, h, w) and within the valid range.

    Each block is shifted and clipped. How far is searched for: clipping takes from the mean what the rest of a block must
    make up for, and next to black or white it takes much.
    """
    black, white = representation.VALID_RANGE
    low, high = torch.full_like(means, black - white), torch.full_like(means, white - black)
    for _ in range(HALVINGS):
        shift = (low + high) / 2
        short = blocks((x + blocks.pinv(shift)).clamp(black, white)) < means
        low, high = torch.where(short, shift, low), torch.where(short, high, shift)
    return (x + blocks.pinv(high)).clamp(black, white)


def block_means(picture: Picture, factor: int) -> Picture:
    """The picture reduced by ``factor``, rows and columns that fill no block cut off at the bottom and right."""
    size = (picture.size[0] // factor * factor, picture.size[1] // factor * factor)
    if 0 in size:
        raise UserError(
            f"{picture.name}: {picture.size[1]} x {picture.size[0]} pixels; expected at least {factor} per side"
        )
    blocks = cropped(picture, size).array.reshape(size[0] // factor, factor, size[1] // factor, factor, -1)
    return fine(picture, np.rint(blocks.mean((1, 3))).astype(picture.array.dtype))


def cropped(picture: Picture, size: tuple[int, int]) -> Picture:
    """The top left part of a picture, without alpha."""
    return fine(picture, picture.array[: size[0], : size[1]])


def fine(picture: Picture, array: np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]) -> Picture:
    """A picture of another size in the place of ``picture``, whose alpha no longer fits."""
    return Picture(np.ascontiguousarray(array), None, picture.format, picture.path, picture.profile)


def bicubic(picture: Picture, factor: int) -> Picture:
    """The usual enlargement (Keys, a = -0.5)."""
    size = (picture.size[0] * factor, picture.size[1] * factor)
    return fine(picture, representation.resize(picture.array, size, Image.Resampling.BICUBIC))
