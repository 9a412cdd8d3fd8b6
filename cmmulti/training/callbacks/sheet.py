"""Several pictures as one."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image


def sheet(pngs: Sequence[bytes], width: int = 1600, gap: int = 4) -> bytes:
    """A PNG of ``pngs`` side by side, in rows of at most ``width`` pixels, ``gap`` pixels apart."""
    images = [Image.open(io.BytesIO(png)).convert("RGB") for png in pngs]
    places, x, y, row, right = [], 0, 0, 0, 0
    for image in images:
        if x and x + image.width > width:
            x, y, row = 0, y + row + gap, 0
        places.append((x, y))
        x, row, right = x + image.width + gap, max(row, image.height), max(right, x + image.width)
    canvas = Image.new("RGB", (right, y + row), "white")
    for image, place in zip(images, places, strict=True):
        canvas.paste(image, place)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()
