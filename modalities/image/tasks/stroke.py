"""Make a picture that follows a rough painting."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from torch import Tensor

from cmmulti.modality import Assignment, Modality, Task, TaskOptions
from cmmulti.model import Model
from cmmulti.randomness import SampleRandomness
from modalities.image import representation
from modalities.image.picture import Picture
from modalities.image.tasks.common import descending, level_of, picture_of, starting_at, transparency_lost


class StrokeOptions(TaskOptions):
    """How far from the guide."""

    strength: float = Field(0.5, ge=0, le=1, description="0 stays close to the guide, 1 takes no more than a hint from it")


class Stroke(Task):
    """The guide is noised to a middle level and denoised again (SDEdit, arXiv 2108.01073).

    The result is of the model's size: a guide of another size is brought to it.
    """

    name = "stroke"
    verb = "edit"
    summary = "make a picture that follows a rough painting"
    Options = StrokeOptions

    def prepare(self, modality: Modality, source: Path | Picture, options: StrokeOptions, model: Model) -> Assignment:
        guide, notes = at_model_size(modality, picture_of(source))
        sigma = level_of(options.strength, model.sigma_max)
        x = modality.encode(guide)

        def finish(parts: Tensor, randomness: SampleRandomness) -> Picture:
            return representation.decode(parts, guide)

        return Assignment(
            shape=tuple(x.shape),
            finish=finish,
            problem=starting_at(x),
            levels=descending(sigma),
            panels={"guide": guide},
            notes=(*notes, f"the guide was noised to sigma = {sigma:.2g} (grey values lie between -1 and 1)"),
        )


def at_model_size(modality: Modality, picture: Picture) -> tuple[Picture, list[str]]:
    """A guide as the model's settings want it, and a note for each change."""
    size, channels = modality.settings.size, modality.settings.channels
    notes = transparency_lost(picture)
    if picture.size != size:
        was, now = f"{picture.size[1]} x {picture.size[0]}", f"{size[1]} x {size[0]}"
        notes.append(f"{picture.name} was brought from {was} to this model's {now} pixels; the middle was kept")
    if picture.channels > channels:
        notes.append(f"{picture.name} was mixed to grey: this model knows no colours")
    return representation.fit(picture, size, min(channels, picture.channels)), notes
