"""Give a grey picture colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Modality, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.operators.base import LinearOperator
from cmmulti.operators.channels import grey
from cmmulti.operators.mask import Mask
from cmmulti.problems.base import Noised, Problem
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import SampleRandomness
from modalities.image import representation
from modalities.image.picture import GREY, Picture
from modalities.image.tasks.common import SIMULATED, descending, measurement_writer, picture_of
from modalities.image.windows import covering


class ColorizeOptions(TaskOptions):
    """Where to start, and whether the right colours are known."""

    simulate: bool = Field(False, description="the input has colours: forget them first, and compare with them afterwards")
    start_level: float = Field(0.6, gt=0, description="first noise level: how far the result may go from where it starts")


class Colorize(Task):
    """The result's grey values are the input's (arXiv 2303.01469, appendix D); colours in the input are not looked at.

    Colours vary slowly: those of a picture larger than the model's are found on a reduced one and enlarged, while the grey
    values stay at full resolution.
    """

    name = "colorize"
    verb = "edit"
    summary = "give a grey picture colours"
    Options = ColorizeOptions

    def prepare(self, modality: Modality, source: Path | Picture, options: ColorizeOptions, model: Model) -> Assignment:
        picture, side = picture_of(source), modality.settings.size
        if modality.settings.channels != 3:
            raise UserError("colorize: this model makes grey pictures; expected one of RGB pictures")
        if options.simulate and picture.channels != 3:
            raise UserError(f"{picture.name}: a grey picture; --simulate expects one with colours")
        values = np.rint(picture.grey())
        shown = picture.holding(values[..., None].astype(picture.array.dtype))
        scale = max(1.0, *(n / s for n, s in zip(picture.size, side, strict=True)))
        small = (max(1, round(picture.size[0] / scale)), max(1, round(picture.size[1] / scale)))
        windows = covering(small, side)
        reduced = Picture(representation.resize(shown.array, small))
        x = windows.cut(modality.encode(reduced))
        operator: LinearOperator = grey(modality.shape)
        y = operator(x)
        if not bool(windows.inside().all()):
            operator = Mask(windows.inside(), operator.range) @ operator

        def finish(parts: Tensor, randomness: SampleRandomness) -> Picture:
            return picture.holding(coloured(values, windows.blend(parts), picture))

        notes = [SIMULATED] if options.simulate else []
        if scale > 1:
            notes.append(f"colours were found at {small[1]} x {small[0]} pixels and enlarged; grey values are the input's")
        return Assignment(
            shape=tuple(x.shape),
            finish=finish,
            problem=Problem(operator, y, 0.0, Replacement(), representation.VALID_RANGE),
            start=Noised(x),
            levels=descending(min(options.start_level, model.sigma_max)),
            panels={"input": shown},
            truth=picture if options.simulate else None,
            baselines={"grey": lambda: picture.holding(np.repeat(shown.array, 3, axis=2))},
            measurement=measurement_writer(shown) if options.simulate else None,
            notes=tuple(notes),
        )


def coloured(values: NDArray[np.float64], x: Tensor, picture: Picture) -> NDArray[np.unsignedinteger]:
    """(H, W) grey values with the colour differences of ``x`` (1, 3, h, w), made paler where they would leave the range."""
    half = picture.white / 2
    rgb = (x[0].double().numpy() + 1) * half
    differences = rgb - np.tensordot(GREY, rgb, 1)
    full = np.stack(
        [representation.resize_plane(d, picture.size) if d.shape != picture.size else d for d in differences], -1
    )
    grey_values = values[..., None]
    room = np.where(full > 0, picture.white - grey_values, grey_values)
    share = np.minimum(1.0, (room / np.maximum(np.abs(full), 1e-9)).min(-1, keepdims=True))
    return np.rint(grey_values + share * full).astype(picture.array.dtype)
