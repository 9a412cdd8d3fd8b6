"""Cartesian masks: exact counts, fastMRI's centre and draws."""

import numpy as np
import pytest

from cmmulti.errors import UserError
from modalities.volume.mri.masks import cartesian_mask, centre_lines, default_calibration


@pytest.mark.parametrize("kind", ["random", "equispaced"])
@pytest.mark.parametrize("columns", [120, 121, 320, 368])
@pytest.mark.parametrize("acceleration", [2, 3.3, 4, 8])
def test_counts_are_exact_and_include_the_centre(kind, columns, acceleration):
    calibration = default_calibration(acceleration)
    for seed in range(5):
        mask = cartesian_mask(kind, columns, acceleration, calibration, seed)
        assert mask.sum() == round(columns / acceleration)
        lines = round(columns * calibration)
        first = (columns - lines + 1) // 2
        assert mask[first : first + lines].all()
        assert mask[columns // 2]


def test_defaults_of_the_calibration_region():
    assert (default_calibration(2), default_calibration(4), default_calibration(4.1)) == (0.08, 0.08, 0.04)


def test_centre_rounds_half_to_even_as_fastmri_does():
    # 372 * 0.04 = 14.88 -> 15 lines from column (372 - 15 + 1) // 2 = 179.
    mask = cartesian_mask("equispaced", 372, 8, 0.04, 0)
    assert centre_lines(mask).start <= 179
    assert mask[179:194].all()


@pytest.mark.parametrize(("columns", "acceleration", "fastmri"), [(368, 4, 95), (368, 8, 47), (320, 4, 81), (320, 8, 39)])
def test_random_lines_are_the_smallest_of_fastmris_own_draws(columns, acceleration, fastmri):
    # fastMRI's RandomMaskFunc keeps u < p and so gets these counts from RandomState(0); ours keeps the same columns up to
    # the exact number.
    calibration = default_calibration(acceleration)
    lines, total = round(columns * calibration), round(columns / acceleration)
    state = np.random.RandomState(0)
    state.randint(1)
    theirs = state.uniform(size=columns) < (columns / acceleration - lines) / (columns - lines)
    first = (columns - lines + 1) // 2
    theirs[first : first + lines] = True
    assert theirs.sum() == fastmri
    ours = cartesian_mask("random", columns, acceleration, calibration, 0)
    assert (ours & theirs).sum() == min(total, fastmri)


def test_golden_columns():
    assert np.flatnonzero(cartesian_mask("random", 368, 4, 0.08, 0))[:6].tolist() == [14, 15, 16, 24, 26, 34]
    assert np.flatnonzero(cartesian_mask("random", 120, 8, 0.04, 0)).tolist() == [
        14, 15, 16, 34, 43, 58, 59, 60, 61, 62, 75, 82, 87, 97, 99,
    ]  # fmt: skip


def test_equispaced_gaps_differ_by_one_at_most():
    mask = cartesian_mask("equispaced", 368, 4, 0.08, 3)
    gaps = np.diff(np.flatnonzero(mask[:160]))
    assert set(gaps) <= {5, 6}  # fastMRI's step is 5.381


def test_seeds_give_different_masks_and_the_same_one_twice():
    a, b = (cartesian_mask("random", 120, 4, 0.08, s) for s in (0, 1))
    assert not np.array_equal(a, b)
    assert np.array_equal(a, cartesian_mask("random", 120, 4, 0.08, 0))


def test_no_acceleration_measures_everything():
    assert cartesian_mask("random", 33, 1, 0.08, 0).all()


@pytest.mark.parametrize(
    ("acceleration", "calibration", "seed", "words"),
    [
        (4, 0.3, 0, "leaves 30 of 120 lines"),
        (4, 0.001, 0, "0 in the centre"),
        (0.5, 0.08, 0, "at least 1"),
        (float("nan"), 0.08, 0, "at least 1"),
        (4, 0, 0, "share"),
        (4, 0.08, -1, "seed"),
    ],
)
def test_impossible_masks_are_refused_with_the_numbers(acceleration, calibration, seed, words):
    with pytest.raises(UserError, match=words):
        cartesian_mask("random", 120, acceleration, calibration, seed)


def test_centre_lines_end_at_the_first_gap():
    mask = np.zeros(9, dtype=bool)
    mask[[0, 3, 4, 5, 8]] = True
    assert centre_lines(mask) == slice(3, 6)
    assert centre_lines(np.ones(9, dtype=bool)) == slice(0, 9)
