"""One answer to a task: sample under its problem, and finish in the item's own domain."""

from __future__ import annotations

from collections.abc import Sequence

from cmmulti.conditioning import Condition
from cmmulti.errors import UserError
from cmmulti.modality import Assignment, Item
from cmmulti.model import Model
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.base import Callback, Sampler


def solved(
    model: Model,
    walker: Sampler,
    assignment: Assignment,
    seed: int,
    levels: Sequence[float],
    condition: Condition,
    callback: Callback | None,
) -> tuple[Item, int]:
    """The item, and the network evaluations that each of its parts took.

    Args:
        condition: of the assignment's parts. levels: noise levels to visit, decreasing.

    Raises:
        UserError: there is something to start from and no noise level.
    """
    parts = assignment.shape[0]
    randomness = SampleRandomness([(seed, part) for part in range(parts)] if parts > 1 else [seed])
    start = assignment.start(randomness.child("start")) if callable(assignment.start) else assignment.start
    if start is not None and not levels:
        raise UserError("levels: expected at least one noise level, got none")
    shape = assignment.shape if start is None else start
    samples = walker.sample(model, shape, levels, randomness, condition, assignment.problem, callback)
    return assignment.finish(samples.x.cpu(), randomness.child("finish")), samples.nfe
