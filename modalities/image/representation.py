"""Picture <-> model tensor: grey values on -1..1, affine in the stored integers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.operators.affine import Affine
from modalities.image.picture import GREY, Picture

VALID_RANGE = (-1.0, 1.0)
"""Black and white."""


def affine(picture: Picture) -> Affine:
    """``stored = 127.5 x + 127.5`` for 8 bit, 32767.5 for 16 bit."""
    half = torch.full((1, 1, 1, 1), picture.white / 2)
    return Affine(half, half, picture.size, (0, 0))


def encode(picture: Picture, channels: int) -> Tensor:
    """(1, channels, H, W) float32 on -1..1, at the picture's own size; grey is repeated for an RGB model.

    Raises:
        UserError: a colour picture for a grey model: what to do with its colours is not ours to decide.
    """
    if picture.channels > channels:
        raise UserError(f"{picture.name}: an RGB picture, and the model knows grey ones only; expected a grey picture")
    x = torch.from_numpy(picture.array.astype(np.float32)).permute(2, 0, 1)[None]
    return (x / (picture.white / 2) - 1).expand(1, channels, -1, -1).contiguous()


def decode(x: Tensor, like: Picture | None = None) -> Picture:
    """The picture of (1, C, H, W) on -1..1, rounded to the nearest integer: 8 bit, or as ``like`` is.

    Colours are mixed to grey where ``like`` is grey; its alpha and profile are taken over where the size is the same.
    """
    array = stored(x, 255 if like is None else like.white, None if like is None else like.channels)
    if like is None or like.size != array.shape[:2]:
        return Picture(array)
    return like.holding(array)


def stored(x: Tensor, white: int, channels: int | None = None) -> NDArray[np.unsignedinteger]:
    """(1, C, H, W) on -1..1 -> (H, W, channels) integers on 0..white, clipped."""
    if x.dim() != 4 or len(x) != 1:
        raise ValueError(f"one picture has one part: expected (1, C, H, W), got {tuple(x.shape)}")
    values = ((x[0].double() + 1) * (white / 2)).permute(1, 2, 0).numpy()
    if channels == 1 and values.shape[2] == 3:
        values = values @ (GREY[:, None])
    elif channels == 3 and values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    return np.clip(np.rint(values), 0, white).astype(np.uint8 if white == 255 else np.uint16)


def fit(picture: Picture, size: tuple[int, int], channels: int, how: str = "crop") -> Picture:
    """The picture at another size, for training and for guides: alpha is dropped, grey repeated or colours mixed to grey.

    Args:
        size: height and width wanted. how: ``crop`` keeps the aspect and cuts the middle out; ``stretch`` does not.
    """
    array = picture.array
    if channels == 1 and picture.channels == 3:
        array = np.rint(picture.grey())[..., None].astype(array.dtype)
    elif channels == 3 and picture.channels == 1:
        array = np.repeat(array, 3, axis=2)
    if how == "crop":
        scale = max(size[0] / picture.size[0], size[1] / picture.size[1])
        inner = [min(n, max(1, round(s / scale))) for n, s in zip(picture.size, size, strict=True)]
        top, left = [(n - m) // 2 for n, m in zip(picture.size, inner, strict=True)]
        array = array[top : top + inner[0], left : left + inner[1]]
    return Picture(resize(array, size), None, picture.format, picture.path)


def resize(
    array: NDArray[np.unsignedinteger], size: tuple[int, int], how: Image.Resampling = Image.Resampling.LANCZOS
) -> NDArray[np.unsignedinteger]:
    """(H, W, C) -> (*size, C) by one of Pillow's filters, which average when they reduce; rounded to its type."""
    if array.shape[:2] == size:
        return array
    planes = [resize_plane(array[..., c], size, how) for c in range(array.shape[2])]
    return np.clip(np.rint(np.stack(planes, -1)), 0, np.iinfo(array.dtype).max).astype(array.dtype)


def resize_plane(
    plane: NDArray[np.generic], size: tuple[int, int], how: Image.Resampling = Image.Resampling.LANCZOS
) -> NDArray[np.float32]:
    """One (H, W) plane in float32, resampled by one of Pillow's filters."""
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((size[1], size[0]), how))
