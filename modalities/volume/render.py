"""Scans as pictures: three planes in mm aspect, one window for all, sides marked, error maps on a stated scale."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from cmmulti.media import Media, Picture
from modalities.volume.geometry import AXES, Layout, Plane, reordered
from modalities.volume.item import Array, Volume
from modalities.volume.resampling import AIR_HU
from modalities.volume.settings import VolumeSettings

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
CT_WINDOW = (-1000.0, 400.0)
ERROR_FACTOR = 5
SPREAD_PERCENTILE = 99.5
"""Of the voxels that differ between answers: the brightest in their picture."""
OUTLINE = (255, 208, 0)
LETTERS = (120, 190, 255)
GAP, MARGIN = 6, 15
SMALL, MIDDLE, TALL = 140, 160, 340
"""Pixels of the tallest slice: of many samples, of three planes (two panels fit a laptop's page), of single slices."""
GALLERY = 5
"""From this many panels without a reference on, they are shown small."""


@dataclass(frozen=True)
class View:
    """What all panels share.

    Args:
        planes: which are shown. point: (3,) world mm that the slices pass through. window: value of black and of white.
        pixels_per_mm: scale of the picture.
    """

    planes: tuple[Plane, ...]
    point: Array
    window: tuple[float, float]
    pixels_per_mm: float


def render(
    panels: Mapping[str, Volume], settings: VolumeSettings, reference: str | None = None, mark: Array | None = None
) -> list[Media]:
    """One picture per panel; below each but the reference, its error against the reference.

    Radiological display: the patient's left is on the viewer's right, and the letters at the borders say so.

    Args:
        panels: caption -> scan. reference: the panel that errors are taken against, which may be stored in another order
            than the others; voxel belongs to voxel where the shapes agree. mark: (I, J, K) bool in the order of the
            others, outlined in yellow on panels of that shape; the slices pass through its middle, or through what is
            marked nearest to that.
    """
    if not panels:
        return []
    like = next((v for name, v in panels.items() if name != reference), panels[next(iter(panels))])
    panels = {name: _laid_on(v, like) if name == reference else v for name, v in panels.items()}
    truth = panels[reference] if reference is not None else None
    small = truth is None and len(panels) >= GALLERY
    scaled = [truth] if truth is not None else list(panels.values())
    view = _view(scaled[0], _window(scaled, settings), mark, small)
    return _explained(
        [_picture(name, v, view, settings, None if name == reference else truth, mark) for name, v in panels.items()]
    )


def _laid_on(reference: Volume, like: Volume) -> Volume:
    """The reference in the stored order of ``like`` and, where the shapes agree, in its place: what has no place in the
    world, or lies a part of a voxel off, would be cut elsewhere."""
    laid = reordered(reference, like)
    return replace(laid, affine=like.affine) if laid.shape == like.shape else laid


def render_spread(mean: Volume, deviation: Volume, settings: VolumeSettings) -> list[Media]:
    """The mean of several answers, and their standard deviation on a scale of its own."""
    values = deviation.values()
    differ = values > 0
    limit = float(np.percentile(values[differ], SPREAD_PERCENTILE)) if differ.any() else 1.0
    # Answers to a hole differ in it alone, and nothing could be seen elsewhere.
    view = _view(deviation, (0.0, limit), differ if differ.mean() < 0.5 else None, False)
    shown = _picture("mean", mean, replace(view, window=_window([mean], settings)), settings, None, None)
    tiles = [_tile(deviation, values, plane, view, None, view.window, "inferno") for plane in view.planes]
    caption = f"spread: standard deviation of the answers · black 0, brightest {limit:.4g} {_unit(settings)} or more"
    alt = f"spread: {', '.join(view.planes)} slices of the standard deviation, radiological display"
    return _explained([shown, Picture(_png(_arranged([tiles])), caption, alt)])


def _explained(media: Sequence[Picture]) -> list[Media]:
    """The first picture's caption tells which side is left."""
    first = media[0]
    return [replace(first, caption=f"{first.caption}; radiological display: left is on the right"), *media[1:]]


def _unit(settings: VolumeSettings) -> str:
    return "HU" if settings.kind == "ct" else "arbitrary units"


def _window(volumes: Sequence[Volume], settings: VolumeSettings) -> tuple[float, float]:
    """Values of black and white: fixed HU, or air and the largest percentile among MR scans."""
    if settings.kind == "ct":
        return CT_WINDOW
    seen = [v[v > 0] for v in (volume.values() for volume in volumes)]
    return 0.0, max([float(np.percentile(v, settings.percentile)) for v in seen if len(v)], default=1.0)


def _view(volume: Volume, window: tuple[float, float], mark: Array | None, small: bool) -> View:
    shape = np.array(volume.shape)
    flat = int(np.argmin(shape)) if shape.min() == 1 else None
    planes = PLANES if flat is None else (_plane_across(volume, flat),)
    centre = (shape - 1) / 2
    if mark is not None and mark.shape == volume.shape and mark.any():
        places = np.argwhere(mark)
        centre = places.mean(0)
        if not mark[tuple(np.rint(centre).astype(int))]:
            # Between two holes there is none to be seen.
            centre = places[np.argmin((((places - centre) * volume.voxel_mm) ** 2).sum(1))]
    point = (volume.affine @ np.append(centre, 1))[:3]
    tallest = max(_size_mm(volume, plane)[0] for plane in planes)
    height = SMALL if small else TALL if len(planes) == 1 else MIDDLE
    return View(planes, point, window, height / tallest)


def _picture(
    name: str, volume: Volume, view: View, settings: VolumeSettings, reference: Volume | None, mark: Array | None
) -> Picture:
    outlined = mark if mark is not None and mark.shape == volume.shape else None
    low, high = view.window
    values = volume.values()
    rows = [[_tile(volume, values, plane, view, outlined, view.window) for plane in view.planes]]
    caption = f"{name} · black {low:.4g}, white {high:.4g} {_unit(settings)}"
    if reference is not None and reference.shape == volume.shape:
        error = np.abs(_known(values, settings) - _known(reference.values(), settings))
        limit = (high - low) / ERROR_FACTOR
        rows.append([_tile(volume, error, plane, view, outlined, (0.0, limit), "inferno") for plane in view.planes])
        caption += f"; below |error| x{ERROR_FACTOR}: brightest {limit:.4g} or more"
    where = ", ".join(f"{v:.0f}" for v in view.point)
    planes = f"{', '.join(view.planes)} slice{'s' if len(view.planes) > 1 else ''}"
    alt = f"{name}: {planes} through ({where}) mm, radiological display"
    return Picture(_png(_arranged(rows)), caption, alt)


def _known(values: Array, settings: VolumeSettings) -> Array:
    """Values that an error is taken of: CT padding below air is air, as in the figures."""
    return np.maximum(values, AIR_HU) if settings.kind == "ct" else values


def _tile(
    volume: Volume,
    values: Array,
    plane: Plane,
    view: View,
    mark: Array | None,
    window: tuple[float, float],
    colours: str = "gray",
) -> Image.Image:
    """One slice in mm aspect with its outline and letters."""
    layout = Layout(volume.affine, plane)
    index = np.linalg.inv(layout.model_affine(volume.shape)) @ np.append(view.point, 1)
    ordered = layout.apply(values)
    k = int(np.clip(np.rint(index[0]), 0, len(ordered) - 1))
    height, width = (max(1, round(v * view.pixels_per_mm)) for v in _size_mm(volume, plane))
    grey = Image.fromarray(np.ascontiguousarray(ordered[k], np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    level = np.clip((np.asarray(grey) - window[0]) / (window[1] - window[0]), 0, 1)
    colour = np.rint(colormaps[colours](level)[..., :3] * 255).astype(np.uint8)
    if mark is not None:
        inside = Image.fromarray(np.ascontiguousarray(layout.apply(mark)[k])).resize(
            (width, height), Image.Resampling.NEAREST
        )
        hole = np.asarray(inside).astype(bool)
        colour[hole & ~scipy.ndimage.binary_erosion(hole)] = OUTLINE
    return _lettered(Image.fromarray(colour), plane)


def _lettered(slice_: Image.Image, plane: Plane) -> Image.Image:
    """The slice in a margin that names its sides."""
    _, down, right = AXES[plane]
    out = Image.new("RGB", (slice_.width + 2 * MARGIN, slice_.height + 2 * MARGIN))
    out.paste(slice_, (MARGIN, MARGIN))
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(12)
    middle = out.width / 2, out.height / 2
    half = MARGIN / 2
    for letter, at in (
        (OPPOSITE[right], (half, middle[1])),
        (right, (out.width - half, middle[1])),
        (OPPOSITE[down], (middle[0], half)),
        (down, (middle[0], out.height - half)),
    ):
        draw.text(at, letter, LETTERS, font, anchor="mm")
    return out


def _arranged(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Tiles in rows, each column as wide as its widest and centred on black."""
    widths = [max(tile.width for tile in column) for column in zip(*rows, strict=True)]
    heights = [max(tile.height for tile in row) for row in rows]
    out = Image.new("RGB", (sum(widths) + GAP * (len(widths) - 1), sum(heights) + GAP * (len(heights) - 1)))
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for tile, width in zip(row, widths, strict=True):
            out.paste(tile, (left + (width - tile.width) // 2, top + (height - tile.height) // 2))
            left += width + GAP
        top += height + GAP
    return out


def _size_mm(volume: Volume, plane: Plane) -> tuple[float, float]:
    """Height and width of a slice."""
    layout = Layout(volume.affine, plane)
    _, rows, columns = layout.apply(np.broadcast_to(np.uint8(0), volume.shape)).shape
    _, high, wide = layout.voxel_mm()
    return rows * high, columns * wide


def _plane_across(volume: Volume, axis: int) -> Plane:
    """The plane whose slices are stacked along a stored axis."""
    only = np.zeros(3)
    only[axis] = 1
    return next(p for p in PLANES if Layout(volume.affine, p).apply(np.zeros(1 + only.astype(int))).shape[0] == 2)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()
