"""Conditions: dropping, indexing, moving through function transforms."""

import torch
from torch.utils import _pytree as pytree

from cmmulti.conditioning import NO_CONDITION, NULL_LABEL, Condition


def full():
    return Condition(torch.tensor([1, 2, 3]), torch.randn(3, 4, 5), torch.ones(3), torch.zeros(3, dtype=torch.int64))


def test_dropping_forgets_label_and_context_of_some():
    drop = torch.tensor([True, False, True])
    got = full().dropped(drop)
    assert got.label.tolist() == [NULL_LABEL, 2, NULL_LABEL]
    assert got.context.flatten(1).abs().sum(1).gt(0).tolist() == [False, True, False]
    assert torch.equal(got.guidance, torch.ones(3))


def test_dropping_without_a_mask_forgets_all():
    got = full().dropped()
    assert got.label.tolist() == [NULL_LABEL] * 3
    assert float(got.context.abs().sum()) == 0
    assert NO_CONDITION.dropped() == NO_CONDITION


def test_a_context_may_be_forgotten_apart_from_the_label():
    drop = torch.tensor([True, True, False])
    got = full().dropped(drop, ~drop)
    assert got.label.tolist() == [NULL_LABEL, NULL_LABEL, 3]
    assert got.context.flatten(1).abs().sum(1).gt(0).tolist() == [True, True, False]
    assert got.unconditional(torch.zeros(3, 1)).tolist() == [False] * 3


def test_what_lost_all_that_it_was_given_is_unconditional():
    x, drop = torch.zeros(3, 1), torch.tensor([True, False, True])
    assert full().dropped(drop).unconditional(x).tolist() == drop.tolist()
    assert Condition(context=full().dropped(drop).context).unconditional(x).tolist() == drop.tolist()
    assert Condition(label=full().dropped(drop).label).unconditional(x).tolist() == drop.tolist()
    assert NO_CONDITION.unconditional(x).tolist() == [False] * 3


def test_a_condition_is_a_tree_of_tensors():
    leaves, spec = pytree.tree_flatten(full())
    again = pytree.tree_unflatten(leaves, spec)
    assert isinstance(again, Condition)
    doubled = torch.func.vmap(lambda c, x: c.guidance * x, in_dims=(0, 0))(full(), torch.full((3,), 2.0))
    assert doubled.tolist() == [2, 2, 2]


def test_slices():
    part = full()[1:]
    assert part.label.tolist() == [2, 3]
    assert len(part.context) == 2
