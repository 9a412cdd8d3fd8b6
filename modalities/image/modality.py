"""The adapter of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cmmulti.media import Media
from cmmulti.modality import DataSource, Modality, Split, require_whole
from cmmulti.operators.affine import Affine
from cmmulti.randomness import SampleRandomness
from modalities.image import datasets, files, representation
from modalities.image.arrays import PictureArray
from modalities.image.metrics import metrics
from modalities.image.picture import Picture
from modalities.image.render import render
from modalities.image.settings import ImageSettings
from modalities.image.tasks import TASKS


class ImageModality(Modality):
    """Pictures: PNG and JPEG files, grey and RGB, 8 and 16 bit."""

    name = "image"
    Settings = ImageSettings
    tasks = TASKS
    extension = ".png"
    suffixes = files.SUFFIXES
    settings: ImageSettings

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.settings.channels, *self.settings.size)

    @property
    def valid_range(self) -> tuple[float, float]:
        return representation.VALID_RANGE

    def load(self, path: Path) -> Picture:
        return files.load(path)

    def describe(self, path: Path) -> dict[str, Any]:
        picture = files.load(path)
        return {
            "format": picture.format,
            "width": picture.size[1],
            "height": picture.size[0],
            "colours": "grey" if picture.channels == 1 else "RGB",
            "bits": 8 if picture.white == 255 else 16,
            "alpha": picture.alpha is not None,
            "smallest": int(picture.array.min()),
            "largest": int(picture.array.max()),
        }

    def encode(self, item: Picture) -> Tensor:
        return representation.encode(item, self.settings.channels)

    def decode(self, x: Tensor, like: Picture | None = None, randomness: SampleRandomness | None = None) -> Picture:
        require_whole(x, len(self.shape) + 1)
        return representation.decode(x, like)

    def save(self, item: Picture, path: Path) -> Path:
        return files.save(item, path)

    def render(self, panels: Mapping[str, Picture], reference: str | None = None, mark: Any = None) -> list[Media]:
        return render(panels, reference, mark)

    def metrics(self, result: Picture, truth: Picture, mark: Any = None) -> dict[str, float]:
        return metrics(result, truth, mark)

    def affine(self, item: Picture) -> Affine:
        return representation.affine(item)

    def specification(self) -> dict[str, str]:
        height, width = self.settings.size
        colours = "1 (grey)" if self.settings.channels == 1 else "3 (RGB)"
        return {"size": f"{height} x {width} pixels (height x width)", "channels": colours}

    def network(self) -> dict[str, Any]:
        """Levels until at most 8 x 8 positions are left, no fewer than two; attention from 16 x 16 positions down, for it
        costs the square of their number. A small picture's finest level has none.
        """
        levels = [max(self.settings.size)]
        while levels[-1] > 8 or len(levels) < 2:
            levels.append(-(-levels[-1] // 2))
        return {
            "dims": 2,
            "in_channels": self.settings.channels,
            "channels": [64, *[128] * (len(levels) - 1)],
            "blocks": 2,
            "attention": [i for i, side in enumerate(levels) if i and side <= 16],
            "classes": self.settings.classes,
        }

    def dataset(self, source: DataSource, split: Split) -> PictureArray:
        return datasets.dataset(source, split, self.settings.size, self.settings.channels, self.settings.classes)
