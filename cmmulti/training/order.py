"""Which training example comes when: a function of (seed, epoch) alone, so that a run resumes from its step counter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from cmmulti.randomness import key


class Place(NamedTuple):
    """One example in one pass over the data; augmentation is keyed by both."""

    epoch: int
    example: int


class Order:
    """An endless stream of examples: pass after pass, each in an order of its own. Batches run across pass ends.

    Args:
        n: examples. seed: of the run. batch_size: examples per optimiser step. accumulate, processes: how a step is cut up.
    """

    def __init__(self, n: int, seed: int, batch_size: int, accumulate: int = 1, processes: int = 1) -> None:
        self.n, self.seed, self.batch_size = n, seed, batch_size
        self.accumulate, self.processes = accumulate, processes
        self._epoch, self._permutation = -1, [0]

    def place(self, position: int) -> Place:
        """The example at a position of the stream."""
        epoch, offset = divmod(position, self.n)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(key(self.seed, "order", epoch))
            self._epoch, self._permutation = epoch, torch.randperm(self.n, generator=generator).tolist()
        return Place(epoch, self._permutation[offset])

    def batch(self, step: int, micro: int = 0, rank: int = 0) -> list[Place]:
        """What process ``rank`` sees in the accumulated batch ``micro`` of a step."""
        size = self.batch_size // (self.accumulate * self.processes)
        first = step * self.batch_size + (micro * self.processes + rank) * size
        return [self.place(p) for p in range(first, first + size)]


class StepBatches(Sampler[list[Place]]):
    """The batches of one process from step ``start`` up to ``stop``."""

    def __init__(self, order: Order, start: int, stop: int, rank: int = 0) -> None:
        self.order, self.start, self.stop, self.rank = order, start, stop, rank

    def __iter__(self) -> Iterator[list[Place]]:
        for step in range(self.start, self.stop):
            for micro in range(self.order.accumulate):
                yield self.order.batch(step, micro, self.rank)

    def __len__(self) -> int:
        return (self.stop - self.start) * self.order.accumulate
