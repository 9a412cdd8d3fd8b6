"""Where the axes of a measurement without an affine count to, as its user says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cmmulti.errors import UserError
from modalities.volume.mri.kspace import ASSUMED, HINT, KSpace

DIRECTIONS = ("LR", "PA", "IS")
"""Letters of the world's axes, each from its negative to its positive end."""


def oriented(item: KSpace, letters: str, name: str) -> KSpace:
    """The measurement with an affine whose rows, columns and slices count to ``letters``, such as ``PLS``: to the back, to
    the patient's left, to the head.

    Raises:
        UserError: the measurement states its affine, or these are not three directions, one along each axis of the world.
    """
    if item.stated == "affine":
        raise UserError(f"{name}: states its affine, which says where its axes count to; leave out --orientation")
    axes = [next((axis for axis, ends in enumerate(DIRECTIONS) if letter in ends), -1) for letter in letters.upper()]
    if sorted(axes) != [0, 1, 2]:
        raise UserError(
            "orientation: expected where rows, columns and slices count to, one letter each of R or L, A or P, S or I, "
            f"such as PLS, got {letters!r}"
        )
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, letter, mm) in enumerate(zip(axes, letters.upper(), item.voxel_mm, strict=True)):
        affine[axis, column] = mm if letter == DIRECTIONS[axis][1] else -mm
    told = f"its rows, columns and slices count to {letters.upper()}, as --orientation says"
    return replace(item, affine=affine, notes=tuple(note.replace(ASSUMED, told) for note in item.notes if note != HINT))
