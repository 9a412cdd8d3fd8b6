"""Real items as tensors: the sets that samples are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cmmulti.modality import Modality, TrainingSet
from cmmulti.pipeline.processes import gathered, my_share
from cmmulti.randomness import SampleRandomness, key


@dataclass(frozen=True)
class RealSet:
    """Clean tensors ``x`` (n, C, *spatial) with their ``labels`` (n,), in model space."""

    x: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice | Tensor) -> RealSet:
        return RealSet(self.x[index], self.labels[index])

    @property
    def labelled(self) -> RealSet:
        """The items that have a label."""
        return self if bool((self.labels >= 0).all()) else self[self.labels >= 0]


def draw(data: TrainingSet, seed: int, at_most: int, copies: int = 1) -> RealSet:
    """Items of a split as a model in training meets them: augmented by draws that depend on ``seed`` and the item.

    Args:
        at_most: items taken, by a seeded shuffle. copies: draws of each item; one alone where nothing is augmented.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(key(seed, "order")))
    chosen = [int(i) for i in order[:at_most]]
    first = torch.stack([_one(data, i, seed, 0) for i in chosen])
    labels = data.labels[torch.tensor(chosen, dtype=torch.int64)]
    if copies > 1 and torch.equal(_one(data, chosen[0], seed, 1), first[0]):
        copies = 1
    further = [torch.stack([_one(data, i, seed, c) for i in chosen]) for c in range(1, copies)]
    return RealSet(torch.cat([first, *further]), labels.repeat(copies))


def _one(data: TrainingSet, index: int, seed: int, copy: int) -> Tensor:
    generator = torch.Generator().manual_seed(key(seed, "augmentation", index, copy))
    return data.tensor(index, generator)


def needs_round_trip(modality: Modality, x: Tensor) -> bool:
    """Whether an item shows less, or something else, than its model tensor: where the representation is not affine.

    Sound is judged as a waveform, whose phase is made up: a log-mel picture that no sound has must not be scored as one.
    """
    return modality.affine(modality.decode(x[:1], None, SampleRandomness([0], "evaluation"))) is None


def round_trip(modality: Modality, x: Tensor, seeds: Sequence[int]) -> Tensor:
    """``encode(decode(x))`` row by row, shared out where several processes run; the seed draws what decoding draws."""
    mine = my_share(len(x))
    rows = [_through(modality, x[i : i + 1], seeds[i]) for i in range(mine.start, mine.stop)]
    back = torch.cat(rows) if rows else x[:0]
    return gathered(back)


def _through(modality: Modality, x: Tensor, seed: int) -> Tensor:
    item = modality.decode(x.cpu(), None, SampleRandomness([seed], "decode"))
    return _fitted(modality.encode(item)[:1], x)


def _fitted(x: Tensor, like: Tensor) -> Tensor:
    """``x`` cut, or continued by its edge, to the shape of ``like``: framing may add or lose a frame at the end."""
    for axis, n in enumerate(like.shape[2:], start=2):
        x = x.narrow(axis, 0, min(n, x.shape[axis]))
        if missing := n - x.shape[axis]:
            x = torch.cat([x, x.narrow(axis, x.shape[axis] - 1, 1).repeat_interleave(missing, axis)], axis)
    return x


def clamped(modality: Modality, x: Tensor) -> Tensor:
    """``x`` inside the modality's valid range: what its items can hold."""
    return x if modality.valid_range is None else x.clamp(*modality.valid_range)
