"""Data of several modalities for one model: each step's batch is of one of them, keyed by (seed, step)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from cmmulti.conditioning import NULL_LABEL
from cmmulti.modality import Item, TrainingSet
from cmmulti.randomness import key
from cmmulti.training.data import Examples, Sample
from cmmulti.training.order import Order, Place


class JointOrder(Order):
    """Which modality's examples come when: of every ``len(orders)`` steps each modality has one, in a drawn order.

    A function of (seed, step) alone, as :class:`Order` is. Examples of the modalities are counted on, one after the
    other, so that a place says which modality it belongs to.
    """

    def __init__(self, orders: Sequence[Order], seed: int) -> None:
        first = orders[0]
        super().__init__(sum(o.n for o in orders), seed, first.batch_size, first.accumulate, first.processes)
        self.orders = list(orders)
        self.firsts = [0, *accumulate(order.n for order in orders)][:-1]

    def turn(self, step: int) -> tuple[int, int]:
        """The modality of a step, and how many steps that one has had before."""
        had, place = divmod(step, len(self.orders))
        generator = torch.Generator().manual_seed(key(self.seed, "modality", had))
        return int(torch.randperm(len(self.orders), generator=generator)[place]), had

    def batch(self, step: int, micro: int = 0, rank: int = 0) -> list[Place]:
        """What process ``rank`` sees in the accumulated batch ``micro`` of a step: all of one modality."""
        which, had = self.turn(step)
        return [Place(p.epoch, p.example + self.firsts[which]) for p in self.orders[which].batch(had, micro, rank)]


class JointSet(TrainingSet):
    """The train splits of all modalities one after the other; labels are counted on, too.

    Args:
        first_labels: of each modality among all; None for one whose classes the network does not know.
    """

    def __init__(self, parts: Sequence[TrainingSet], first_labels: Sequence[int | None]) -> None:
        self.parts = list(parts)
        self.names = [name for part in parts for name in part.names]
        self.labels = torch.cat([_shifted(part.labels, f) for part, f in zip(parts, first_labels, strict=True)])
        self.licence = _told([part.licence for part in parts])
        self.attribution = _told([part.attribution for part in parts])
        self.firsts = [0, *accumulate(len(part) for part in parts)][:-1]

    def whose(self, index: int) -> tuple[int, int]:
        """The modality of an example, and its number there."""
        which = bisect_right(self.firsts, index) - 1
        return which, index - self.firsts[which]

    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        which, own = self.whose(index)
        return self.parts[which].tensor(own, generator)

    def item(self, index: int) -> Item:
        which, own = self.whose(index)
        return self.parts[which].item(own)


class JointExamples(Examples):
    """The examples of all modalities by :class:`Place`, checked by each one's own :class:`Examples`."""

    def __init__(self, parts: Sequence[Examples], first_labels: Sequence[int | None]) -> None:
        self.parts = list(parts)
        self.all = JointSet([part.source for part in parts], first_labels)
        super().__init__(self.all, parts[0].seed, parts[0].shape, parts[0].skip)

    def __getitem__(self, place: Place) -> Sample:
        which, own = self.all.whose(place.example)
        x, _, used = self.parts[which][Place(place.epoch, own)][:3]
        index = used + self.all.firsts[which]
        return Sample(x, int(self.all.labels[index]), index, which)


def _shifted(labels: Tensor, first: int | None) -> Tensor:
    if first is None:
        return torch.full_like(labels, NULL_LABEL)
    return torch.where(labels >= 0, labels + first, labels)


def _told(words: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(word for word in words if word))
