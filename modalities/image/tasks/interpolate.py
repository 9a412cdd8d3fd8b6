"""Walk from one picture to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Modality, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.randomness import SampleRandomness
from modalities.image import representation
from modalities.image.picture import Picture
from modalities.image.tasks.common import descending, level_of, picture_of, starting_at
from modalities.image.tasks.stroke import at_model_size


class InterpolateOptions(TaskOptions):
    """The other end, and how many pictures lie between."""

    other: Path | None = Field(None, description="the picture at the other end")
    other_seed: int | None = Field(None, ge=0, description="with no input: from the run's own seed to this one")
    frames: int = Field(7, ge=1, le=64, description="pictures in the series, both ends included; 1 for the middle alone")
    strength: float = Field(0.5, ge=0, le=1, description="between pictures: how freely the model may change their mixture")


class Interpolate(Task):
    """The result is one strip of ``frames`` pictures, side by side, each of the model's size.

    Between pictures their mixtures are noised to a middle level, all with the same noise, and denoised (DDPM, arXiv
    2006.11239, section 4.3). Between seeds the noise itself turns from one to the other on the sphere; in one step the ends
    are what these seeds generate with the same class; none is told to the model where none is asked for.
    """

    name = "interpolate"
    verb = "edit"
    summary = "walk from one picture to another, or from one seed to another"
    Options = InterpolateOptions
    needs_input = False

    def prepare(
        self, modality: Modality, source: Path | Picture | None, options: InterpolateOptions, model: Model
    ) -> Assignment:
        where = torch.linspace(0, 1, options.frames) if options.frames > 1 else torch.tensor([0.5])
        shape = (len(where), *modality.shape)
        if (source is None) == (options.other is not None) or (source is None) == (options.other_seed is None):
            raise UserError("interpolate: expected an input and `other`, or no input and `other_seed`")
        if source is None:
            seed = options.other_seed
            return Assignment(
                shape=shape,
                finish=lambda parts, randomness: strip(parts, None),
                problem=starting_at(torch.zeros(shape), "shared"),
                start=lambda randomness: slerp(
                    generation_noise(randomness.seeds[0], shape), generation_noise(seed, shape), where
                ),
                notes=(f"{len(where)} frames, from left to right",),
            )
        first, notes = at_model_size(modality, picture_of(source))
        last, more = at_model_size(modality, picture_of(options.other or Path()))
        sigma = level_of(options.strength, model.sigma_max)
        weight = where.view(-1, 1, 1, 1)
        mixed = (1 - weight) * modality.encode(first) + weight * modality.encode(last)

        def same_noise(randomness: SampleRandomness) -> Tensor:
            return randomness.normal(shape)[:1].expand(shape)

        like = last if last.channels > first.channels else first
        return Assignment(
            shape=shape,
            finish=lambda parts, randomness: strip(parts, like),
            problem=starting_at(mixed, "shared"),
            start=same_noise,
            levels=descending(sigma),
            panels={"from": first, "to": last},
            notes=(*notes, *more, f"{len(where)} frames, from left to right; mixtures were noised to sigma = {sigma:.2g}"),
        )


def generation_noise(seed: object, shape: tuple[int, ...]) -> Tensor:
    """The unit noise (1, C, H, W) that generation starts from; a task of several parts has seeds (seed, part)."""
    own = seed[0] if isinstance(seed, tuple) else seed
    return SampleRandomness([own]).normal((1, *shape[1:]))


def slerp(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """Spherical interpolation of unit noise (1, C, H, W): every mixture is as likely as its ends. Returns (frames, ...)."""
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0).clamp(-1, 1)
    angle, t = torch.arccos(cosine), where.view(-1, 1, 1, 1)
    if float(angle) < 1e-4:
        return a.expand(len(where), -1, -1, -1)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def strip(parts: Tensor, like: Picture | None) -> Picture:
    """Frames (n, C, H, W) side by side, 8 bit or as ``like``."""
    frames = [representation.stored(x[None], like.white if like else 255, like.channels if like else None) for x in parts]
    return Picture(np.concatenate(frames, axis=1))
