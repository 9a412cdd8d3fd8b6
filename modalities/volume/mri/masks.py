"""Which columns of k-space are measured: Cartesian masks after fastMRI's, with exact counts.

Both kinds keep ``round(N / R)`` of N columns in all, the ``round(N * calibration)`` central ones included (Python's
rounding, half to even, as in fastMRI). fastMRI's own draws keep that number only on average: its random mask keeps each
outer column with ``p = (N/R - L) / (N - L)``, here those with the smallest of the same uniform draws; its
EquispacedFraction mask steps by ``(N - L) / (N/R - L)`` over all columns, here over those outside the centre, so that none
falls into it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from cmmulti.errors import UserError

MaskKind = Literal["random", "equispaced"]


def default_calibration(acceleration: float) -> float:
    """fastMRI's share of central lines: 0.08 up to fourfold, 0.04 beyond."""
    return 0.08 if acceleration <= 4 else 0.04


def cartesian_mask(kind: MaskKind, columns: int, acceleration: float, calibration: float, seed: int) -> np.ndarray:
    """(columns,) bool: true where a k-space column is measured.

    Args:
        columns: N, of the undersampled axis. acceleration: R >= 1; ``round(N / R)`` columns are kept.
        calibration: share of N that is measured without gaps around the zero frequency at ``N // 2``.
        seed: of numpy's RandomState; the same seed gives the same mask on every machine.

    Raises:
        UserError: an option is out of range, or the centre alone has more lines than the acceleration leaves.
    """
    if not acceleration >= 1:
        raise UserError(f"acceleration: expected a number of at least 1, got {acceleration:g}")
    if not 0 < calibration <= 1:
        raise UserError(f"calibration: expected a share in (0, 1], got {calibration:g}")
    if not 0 <= seed < 2**32:
        raise UserError(f"mask seed: expected an integer in [0, 2^32), got {seed}")
    centre, total = round(columns * calibration), round(columns / acceleration)
    if total == columns:
        return np.ones(columns, dtype=bool)
    if centre < 1 or total <= centre:
        raise UserError(
            f"acceleration {acceleration:g} leaves {total} of {columns} lines and calibration {calibration:g} asks for "
            f"{centre} in the centre: expected at least 1 in the centre and fewer than in all"
        )
    mask = np.zeros(columns, dtype=bool)
    first = (columns - centre + 1) // 2
    mask[first : first + centre] = True
    outer, wanted = np.flatnonzero(~mask), total - centre
    state = np.random.RandomState(seed)
    if kind == "random":
        state.randint(1)  # fastMRI draws which of its accelerations to use first, out of one here
        draws = state.uniform(size=columns)[outer]
        mask[outer[np.argsort(draws, kind="stable")[:wanted]]] = True
    else:
        step = len(outer) / wanted
        offset = state.uniform(0, step)
        mask[outer[np.floor(offset + step * np.arange(wanted)).astype(int)]] = True
    return mask


def centre_lines(mask: np.ndarray) -> slice:
    """The gapless run of measured columns around the zero frequency at ``N // 2``, which must be measured."""
    middle = len(mask) // 2
    start = stop = middle
    while start > 0 and mask[start - 1]:
        start -= 1
    while stop + 1 < len(mask) and mask[stop + 1]:
        stop += 1
    return slice(start, stop + 1)


def centre_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the fully measured rectangle around the zero frequency, of points (ky, kx).

    It grows by a line on each side in turn, as long as all of the line is measured.
    """
    bounds = [[n // 2, n // 2 + 1] for n in mask.shape]
    grown = True
    while grown:
        grown = False
        for axis, side in ((0, 0), (0, 1), (1, 0), (1, 1)):
            wider = [list(b) for b in bounds]
            wider[axis][side] += 2 * side - 1
            inside = wider[axis][0] >= 0 and wider[axis][1] <= mask.shape[axis]
            if inside and mask[slice(*wider[0]), slice(*wider[1])].all():
                bounds, grown = wider, True
    return slice(*bounds[0]), slice(*bounds[1])
