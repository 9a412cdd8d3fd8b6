"""Pictures for a page: enlarged by whole pixels, the hole marked, errors on one fixed scale."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from cmmulti.media import Media
from cmmulti.media import Picture as Shown
from modalities.image.picture import Picture

ERROR_SCALE = 128
"""Grey levels of 0..255 at which an error map is at its brightest, on every page."""
MOST_APART = 12
"""Most samples that are shown one by one; more come as one contact sheet."""
LARGEST = 1024
"""Longest side of a shown picture; a larger one is reduced."""
_HOLE = np.array([255, 64, 160])


def render(panels: Mapping[str, Picture], reference: str | None, mark: NDArray[np.bool_] | None) -> list[Media]:
    """One picture per panel in order, then an error map for each that is compared with ``reference``.

    ``mark`` (H, W): the edge of the hole is drawn on all panels of its size, and the hole itself is tinted in the first.
    """
    if reference is None and mark is None and len(panels) > MOST_APART and len({p.size for p in panels.values()}) == 1:
        return [contact_sheet(panels)]
    shown: list[Media] = []
    for index, (caption, picture) in enumerate(panels.items()):
        pixels = rgb(picture)
        if mark is not None and mark.any() and picture.size == mark.shape:
            shown.append(_marked(pixels, mark, caption, tint=index == 0))
        else:
            shown.append(_shown(pixels, caption))
    truth = panels.get(reference) if reference is not None else None
    for index, (caption, picture) in enumerate(panels.items()):
        if truth is None or picture is truth or picture.size != truth.size:
            continue
        if index > 0 or not np.array_equal(picture.array, truth.array):  # an input that shows the truth has no error
            text = f"error of {caption}: black 0, white {ERROR_SCALE} or more of 255 grey levels"
            shown.append(_shown(error_map(picture, truth), text))
    return shown


def rgb(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) 8-bit colours; alpha is not shown."""
    array = np.rint(picture.array * (255 / picture.white)).astype(np.uint8)
    return np.repeat(array, 3, axis=2) if picture.channels == 1 else array


def error_map(picture: Picture, truth: Picture) -> NDArray[np.uint8]:
    """Largest absolute difference over the channels, 0..``ERROR_SCALE`` grey levels from black through red to white."""
    difference = np.abs(rgb(picture).astype(np.float64) - rgb(truth)).max(2)
    level = np.clip(difference / ERROR_SCALE, 0, 1)[..., None]
    return np.rint(255 * np.clip(3 * level - np.array([0, 1, 2]), 0, 1)).astype(np.uint8)


def contact_sheet(panels: Mapping[str, Picture]) -> Shown:
    """All samples on one sheet, in rows from the top left, as wide as high."""
    names, pictures = list(panels), list(panels.values())
    columns = int(np.ceil(np.sqrt(len(pictures))))
    (height, width), gap = pictures[0].size, max(1, pictures[0].size[0] // 16)
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = rgb(picture)
    return _shown(sheet, f"{len(names)} samples, row by row: {names[0]} … {names[-1]}", most=768)


def _marked(pixels: NDArray[np.uint8], mark: NDArray[np.bool_], caption: str, tint: bool) -> Shown:
    scale = _scale(pixels.shape[:2], 256)
    large, hole = _enlarged(pixels, scale), _enlarged(mark.astype(np.uint8), scale) > 0
    line = max(1, max(hole.shape) // 256)
    edge = scipy.ndimage.binary_dilation(hole, iterations=line) & ~hole
    if tint:
        large = np.where(hole[..., None], np.rint(0.35 * large + 0.65 * _HOLE), large).astype(np.uint8)
    large = np.where(edge[..., None], _HOLE, large).astype(np.uint8)
    return _shown(large, f"{caption} (hole marked)" if tint else caption, scaled=scale)


def _shown(pixels: NDArray[np.uint8], caption: str, most: int = 256, scaled: int = 1) -> Shown:
    height, width = pixels.shape[:2]
    scale = _scale((height, width), max(most, min(256 * width // height, 768)))  # strips may be wider
    pixels = _enlarged(pixels, scale)
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Shown(buffer.getvalue(), caption, caption, pixelated=scale * scaled > 1, width=min(image.width, 768))


def _scale(size: Sequence[int], most: int) -> int:
    """How many times a picture can be enlarged by whole pixels until its longer side would pass ``most``."""
    return max(1, most // max(size))


def _enlarged(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
