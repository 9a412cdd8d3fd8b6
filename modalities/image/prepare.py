"""``cmmulti data prepare``: the picture data sets."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cmmulti.errors import UserError
from cmmulti.files import write_arrays
from cmmulti.preparation import Prepared, matching
from modalities.image.datasets import CIFAR10_CLASSES as CLASSES

LARGEST_FILE = 100_000
"""Bytes; a 32 x 32 JPEG has about 1,000."""


def digits(source: Path, target: Path) -> Prepared:
    """Nothing to do: scikit-learn carries these pictures."""
    return Prepared([], ["digits come with scikit-learn; nothing needs to be prepared"])


def cifar10(source: Path, target: Path) -> Prepared:
    """``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg`` -> ``cifar10-jpeg/cifar10_{train,test}_jpeg.npz``.

    The JPEG files are kept byte for byte; picture i has class i modulo 10 as long as every class has pictures left.
    """
    files, notes = [], []
    for part in ("train", "test"):
        by_class = [matching(source, f"{part}/{name}/*.jpg") for name in CLASSES]
        order = [(label, path) for row in zip_longest(*by_class) for label, path in enumerate(row) if path is not None]
        pictures = [_jpeg(path) for _, path in order]
        archive = target / "cifar10-jpeg" / f"cifar10_{part}_jpeg.npz"
        files.append(write_arrays(archive, _arrays(pictures, [label for label, _ in order])))
        notes.append(f"{part}: {len(order)} pictures")
    return Prepared(files, notes)


def _arrays(pictures: Sequence[bytes], labels: Sequence[int]) -> dict[str, np.ndarray]:
    return {
        "jpeg": np.frombuffer(b"".join(pictures), np.uint8),
        "offsets": np.cumsum([0, *map(len, pictures)], dtype=np.int64),
        "labels": np.array(labels, np.uint8),
        "classes": np.array(CLASSES),
    }


def _jpeg(path: Path) -> bytes:
    """The bytes of a whole 32 x 32 colour JPEG."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: {path.stat().st_size} bytes; expected a picture of 32 x 32 pixels")
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            found = f"{picture.mode} {picture.width} x {picture.height}"
            if found != "RGB 32 x 32":
                raise UserError(f"{path}: {found}; expected RGB 32 x 32")
            picture.load()
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(f"{path}: cannot be read as a JPEG picture ({error})") from error
    return data
