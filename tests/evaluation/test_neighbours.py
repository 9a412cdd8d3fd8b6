"""Precision, recall and memorisation on sets whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cmmulti.evaluation.neighbours import memorisation, nearest, precision_recall


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_nearest_neighbours_agree_with_a_full_sort_over_several_chunks() -> None:
    queries, references = normal(2100, 3, 0), normal(50, 3, 1)
    found = nearest(queries, references, 3)
    distances = (queries[:, None] - references).norm(dim=2)
    torch.testing.assert_close(found.distances, distances.sort(1).values[:, :3])
    assert torch.equal(found.indices[:, 0], distances.argmin(1))


def test_no_row_is_its_own_neighbour() -> None:
    x = normal(1500, 2, 0)
    found = nearest(x, x, 1, leave_out_self=True)
    assert not (found.indices[:, 0] == torch.arange(1500)).any()
    assert float(found.distances.min()) > 0


def test_precision_and_recall_by_hand() -> None:
    """On a line the nearest neighbours of 0, 1, 3 and 7 are 1, 1, 2 and 4 off: -1 and 5 are among them, -1.5 and 12 not.

    The second ones are 3, 2, 3 and 6 off: all are. The nearest of 5 is 6 off, which takes in all of the other set.
    """
    real, samples = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[-1.0], [-1.5], [5.0], [12.0]])
    assert precision_recall(real, samples, k=1) == (0.5, 1.0)
    assert precision_recall(real, samples, k=2) == (1.0, 1.0)


def test_equal_laws_have_high_precision_and_recall() -> None:
    precision, recall = precision_recall(normal(400, 2, 0), normal(400, 2, 1))
    assert precision > 0.9
    assert recall > 0.9


def test_a_mode_that_is_missing_lowers_recall_alone() -> None:
    real = normal(400, 2, 0)
    real[200:] += 100
    precision, recall = precision_recall(real, normal(400, 2, 1))
    assert precision > 0.85
    assert 0.4 < recall < 0.55


def test_samples_that_look_like_nothing_real_lower_precision_alone() -> None:
    samples = normal(400, 2, 1)
    samples[200:] += 100
    precision, recall = precision_recall(normal(400, 2, 0), samples)
    assert 0.4 < precision < 0.55
    assert recall > 0.85


def test_copies_are_found_and_named() -> None:
    train, heldout, samples = normal(500, 16, 0), normal(200, 16, 1), normal(100, 16, 2)
    samples[7] = train[42] + 0.01
    samples[9] = train[43]
    found = memorisation(samples, train, heldout)
    assert found.suspects[:2] == [9, 7]
    assert found.closest[:2] == [(9, 43), (7, 42)]
    assert 0.02 <= found.copied <= 0.06
    assert found.nearer >= 0.02


def test_copies_are_found_where_the_training_set_holds_several_draws_of_each_item() -> None:
    """Twenty draws, each mirrored or not: what is near to ten equal rows is near to one item alone."""
    items = normal(60, 16, 0)
    mirrored = normal(20, 60, 3) > 0
    train = torch.cat([torch.where(flip[:, None], items.flip(1), items) for flip in mirrored])
    heldout, samples = normal(200, 16, 1), normal(100, 16, 2)
    samples[7] = items[42] + 0.01
    found = memorisation(samples, train, heldout, draws=20)
    assert found.suspects[0] == 7
    assert found.closest[0][0] == 7
    assert torch.equal(train[found.closest[0][1]], items[42])
    assert found.copied <= 0.05


def test_distances_are_per_element() -> None:
    """Samples 0.03 beside a training item in every element, held-out items 0.2 beside one."""
    train = normal(500, 16, 0)
    found = memorisation(train[:99] + 0.03, train, train[100:] - 0.2)
    assert found.median == pytest.approx(0.03, rel=1e-3)
    assert found.heldout_median == pytest.approx(0.2, rel=1e-3)


def test_fresh_draws_are_not_suspected_more_than_the_one_in_a_hundred_of_the_threshold() -> None:
    found = memorisation(normal(1000, 16, 2), normal(500, 16, 0), normal(1000, 16, 1))
    assert found.copied < 0.03
    assert found.nearer < 0.03
    assert found.median == pytest.approx(found.heldout_median, rel=0.05)


def test_blur_is_nearer_to_everything_but_copies_nothing() -> None:
    found = memorisation(0.2 * normal(300, 16, 2), normal(500, 16, 0), normal(1000, 16, 1))
    assert found.nearer > 0.03
    assert found.median < 0.8 * found.heldout_median
    assert found.copied < 0.03


def test_samples_far_from_everything_are_no_copies_of_the_item_that_sticks_out() -> None:
    train = normal(500, 16, 0)
    train[3] *= 20
    found = memorisation(1.5 * train[3] + normal(100, 16, 2), train, normal(1000, 16, 1))
    assert found.copied == 0
    assert not found.suspects


def test_too_few_references_are_refused() -> None:
    with pytest.raises(ValueError, match="3 neighbours asked of 3"):
        nearest(normal(3, 2, 0), normal(3, 2, 0), 3, leave_out_self=True)
