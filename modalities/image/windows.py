"""Windows of the model's own size on a picture of any size.

A network is at its best at the size it was trained on. A larger picture is worked on through windows; a smaller one lies
in the middle of one window, whose rest is unknown and thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmmulti.errors import UserError

MOST = 1024
"""Most windows on one picture: beyond, the picture is too large for the model to be of use."""


@dataclass(frozen=True)
class Windows:
    """Where windows lie.

    Args:
        size: height and width of the picture. side: of every window. corners: (top, left) of each; negative where the
            window is larger than the picture.
    """

    size: tuple[int, int]
    side: tuple[int, int]
    corners: tuple[tuple[int, int], ...]

    def cut(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """(1, C, H, W) -> (windows, C, *side); ``fill`` beyond the picture."""
        parts = values.new_full((len(self.corners), values.shape[1], *self.side), fill)
        for part, corner in zip(parts, self.corners, strict=True):
            there, here = self._overlap(corner)
            part[(..., *here)] = values[(0, ..., *there)]
        return parts

    def inside(self) -> Tensor:
        """(windows, 1, *side) bool: true where a window lies on the picture."""
        return self.cut(torch.ones(1, 1, *self.size)) > 0

    def put(self, parts: Tensor, owner: NDArray[np.int64], values: Tensor) -> Tensor:
        """``values`` (1, C, H, W) with each pixel that window ``owner`` (H, W) has, -1 for none, taken from that window."""
        values = values.clone()
        for index, corner in enumerate(self.corners):
            there, here = self._overlap(corner)
            mine = torch.from_numpy(owner[there] == index)
            target = values[(0, ..., *there)]
            target[:, mine] = parts[index][(..., *here)].to(values)[:, mine]
        return values

    def blend(self, parts: Tensor) -> Tensor:
        """(windows, C, *side) -> (1, C, H, W): where windows overlap, their mean, weighted down towards their edges."""
        ramps = [torch.minimum(torch.arange(n) + 1, n - torch.arange(n)).to(parts) for n in self.side]
        ramp = ramps[0][:, None] * ramps[1]
        total = parts.new_zeros(1, parts.shape[1], *self.size)
        weight = parts.new_zeros(self.size)
        for part, corner in zip(parts, self.corners, strict=True):
            there, here = self._overlap(corner)
            total[(0, ..., *there)] += (ramp * part)[(..., *here)]
            weight[there] += ramp[here]
        return total / weight

    def _overlap(self, corner: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part of the picture that a window sees, in the picture's and in the window's own indices."""
        there, here = [], []
        for start, n, side in zip(corner, self.size, self.side, strict=True):
            first, last = max(start, 0), min(start + side, n)
            there.append(slice(first, last))
            here.append(slice(first - start, last - start))
        return (there[0], there[1]), (here[0], here[1])


def covering(size: tuple[int, int], side: tuple[int, int], grid: int = 1) -> Windows:
    """Windows that cover a whole picture and overlap by a quarter at least; corners are multiples of ``grid``."""
    tops, lefts = [_starts(n, s, grid) for n, s in zip(size, side, strict=True)]
    return _checked(Windows(size, side, tuple(product(tops, lefts))))


def around(mask: NDArray[np.bool_], side: tuple[int, int]) -> tuple[Windows, NDArray[np.int64]] | None:
    """Windows that hold every hole of ``mask`` (H, W) with an eighth of their side around it, near holes in one window.

    Returns:
        The windows, and (H, W) which of them fills a pixel, -1 outside the holes; None where a hole is too large.
    """
    size = (mask.shape[0], mask.shape[1])
    if size[0] <= side[0] and size[1] <= side[1]:
        return covering(size, side), np.where(mask, 0, -1)
    labels, _ = scipy.ndimage.label(mask, np.ones((3, 3)))
    reach = [s if n <= s else s - 2 * (s // 8) for n, s in zip(size, side, strict=True)]
    groups: list[list[tuple[int, int]]] = []
    group_of = [-1]
    for found in scipy.ndimage.find_objects(labels):
        box = [(s.start, s.stop) for s in found]
        if not _fits(box, reach):
            return None
        for index, group in enumerate(groups):
            joined = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(group, box, strict=True)]
            if _fits(joined, reach):
                groups[index] = joined
                group_of.append(index)
                break
        else:
            group_of.append(len(groups))
            groups.append(box)
    corners = [_centred(group, size, side) for group in groups] or [_centred([(0, 1), (0, 1)], size, side)]
    return _checked(Windows(size, side, tuple(corners))), np.array(group_of)[labels]


def _checked(windows: Windows) -> Windows:
    if len(windows.corners) > MOST:
        (h, w), (a, b) = windows.size, windows.side
        raise UserError(
            f"a picture of {w} x {h} pixels needs {len(windows.corners)} windows of this model's {b} x {a}; "
            f"expected {MOST} at most: make it smaller, or take a model of larger pictures"
        )
    return windows


def _starts(n: int, side: int, grid: int) -> list[int]:
    if n <= side:
        return [-((side - n) // 2 // grid * grid)]
    count = -(-(n - side) // max(side * 3 // 4, grid)) + 1
    return sorted({round(v / grid) * grid for v in np.linspace(0, n - side, count)})


def _fits(box: list[tuple[int, int]], reach: list[int]) -> bool:
    return all(b - a <= r for (a, b), r in zip(box, reach, strict=True))


def _centred(box: list[tuple[int, int]], size: tuple[int, int], side: tuple[int, int]) -> tuple[int, int]:
    corner = []
    for (a, b), n, s in zip(box, size, side, strict=True):
        corner.append(-((s - n) // 2) if n <= s else min(max((a + b - s) // 2, 0), n - s))
    return corner[0], corner[1]
