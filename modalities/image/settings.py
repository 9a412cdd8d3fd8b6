"""What a model of pictures is told about its pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cmmulti.modality import ModalitySettings

Side = Annotated[int, Field(ge=4, le=4096)]


def _both_sides(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


class ImageSettings(ModalitySettings):
    """``size``: height and width in pixels of what a model makes, or one number for both.

    ``channels``: 1 for grey, 3 for RGB. ``classes``: how many labels the model knows; 0 for none.
    """

    size: Annotated[tuple[Side, Side], BeforeValidator(_both_sides)] = (32, 32)
    channels: Literal[1, 3] = 3
    classes: int = Field(0, ge=0)
