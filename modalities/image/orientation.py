"""What brings a picture upright, by the orientation that its file states (EXIF, or XMP)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

T = TypeVar("T", bound=np.generic)

UNREADABLE = (OSError, ValueError, SyntaxError, KeyError, IndexError, TypeError, EOFError, ArithmeticError, MemoryError)
"""What Pillow and its codecs raise on damaged files."""

# Orientation: whether rows become columns, then the steps along rows and columns. Pillow's own function writes EXIF data
# anew and fails on what it cannot write, and it holds no 16-bit colours.
_TURNS = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}


def upright(array: NDArray[T], image: Image.Image) -> NDArray[T]:
    """The pixels (H, W, ...) of a picture as it is to be seen; its orientation where none is stated, or none that can be
    read, is that of the stored rows."""
    try:
        swapped, rows, columns = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1), (False, 1, 1))
    except UNREADABLE:
        return array
    return (array.swapaxes(0, 1) if swapped else array)[::rows, ::columns]
