"""What nearest neighbours tell: precision and recall of a set of samples, and whether it copies the training set."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 1024


class Nearest(NamedTuple):
    """Distances (n, k), nearest first, and the numbers (n, k) of the references they belong to."""

    distances: Tensor
    indices: Tensor


def nearest(queries: Tensor, references: Tensor, k: int, leave_out_self: bool = False, draws: int = 1) -> Nearest:
    """The ``k`` nearest references to each query, in Euclidean distance.

    Args:
        queries (n, d), references (m, d). leave_out_self: both are the same set, and no row is its own neighbour.
        draws: how many of the references are of one item, a draw of every item after the other; only the nearest of them
            counts.
    """
    items = len(references) // draws
    if items < k + leave_out_self:
        raise ValueError(f"{k} neighbours asked of {items} references")
    found = []
    for first in range(0, len(queries), CHUNK):
        part = queries[first : first + CHUNK]
        distances = torch.cdist(part, references)
        if leave_out_self:
            rows = torch.arange(len(part))
            distances[rows, first + rows] = torch.inf
        least = distances.unflatten(1, (draws, items)).min(1)
        values, which = least.values.topk(k, largest=False)
        found.append(Nearest(values, which + items * least.indices.gather(1, which)))
    return Nearest(torch.cat([f.distances for f in found]), torch.cat([f.indices for f in found]))


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of samples that lie among real items, and of real items that lie among samples."""

    precision: float
    recall: float


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991).

    A point lies among a set when it is within the distance of some member of the set to that member's ``k``-th neighbour.
    Both depend on the sizes of the sets: compare equal numbers only.
    """
    return PrecisionRecall(_inside(generated, real, k), _inside(real, generated, k))


def _inside(points: Tensor, manifold: Tensor, k: int) -> float:
    radii = nearest(manifold, manifold, k, leave_out_self=True).distances[:, -1]
    hits = [(torch.cdist(part, manifold) <= radii).any(1) for part in points.split(CHUNK)]
    return float(torch.cat(hits).double().mean())


class Memorisation(NamedTuple):
    """How samples lie to the training set, beside held-out items, which cannot have been copied.

    Attributes:
        nearer: share of samples nearer to a training item than all but 1 % of the held-out items are. About 0.01 for a
            model that draws from the data's distribution; blurred samples raise it too, as they are near to everything.
        copied: share whose distance to the nearest training item, divided by the mean distance to the next nine, is below
            that of all but 1 % of the held-out items, and which is no farther than half of them: near to one item alone.
            Neither blur nor samples that look like nothing raise it.
        median, heldout_median: root-mean-square distance per element to the nearest training item.
        suspects: numbers of the samples in ``copied``, most suspicious first.
        closest: (sample, training item) pairs, by that ratio, whether suspicious or not; for looking at.
    """

    nearer: float
    copied: float
    median: float
    heldout_median: float
    suspects: list[int]
    closest: list[tuple[int, int]]


def memorisation(samples: Tensor, train: Tensor, heldout: Tensor, neighbours: int = 10, draws: int = 1) -> Memorisation:
    """Compare nearest-neighbour distances of samples and of held-out items to the training set.

    Args:
        samples, train, heldout: any number of rows of the same representation; flattened here. draws: how many rows of
            ``train`` are of one item, a draw of every item after the other: neighbours are different items, for a copy is
            near to all draws of its own that augmentation has left alike.
    """
    rows = train.flatten(1).float()
    scale = rows.shape[1] ** 0.5
    count = min(neighbours, len(rows) // draws)
    found = nearest(samples.flatten(1).float(), rows, count, draws=draws)
    ours = found.distances / scale
    theirs = nearest(heldout.flatten(1).float(), rows, count, draws=draws).distances / scale
    ratio, heldout_ratio = _alone(ours), _alone(theirs)
    distance_bound, ratio_bound = _lowest_percent(theirs[:, 0]), _lowest_percent(heldout_ratio)
    copied = (ratio < ratio_bound) & (ours[:, 0] <= theirs[:, 0].median())
    order = ratio.argsort()
    return Memorisation(
        nearer=float((ours[:, 0] < distance_bound).double().mean()),
        copied=float(copied.double().mean()),
        median=float(ours[:, 0].median()),
        heldout_median=float(theirs[:, 0].median()),
        suspects=[int(i) for i in order if copied[i]],
        closest=[(int(i), int(found.indices[i, 0])) for i in order[:8]],
    )


def _alone(distances: Tensor) -> Tensor:
    """Nearest distance over the mean of the further ones; 1 where there are none."""
    if distances.shape[1] == 1:
        return torch.ones(len(distances))
    return distances[:, 0] / distances[:, 1:].mean(1).clamp_min(1e-12)


def _lowest_percent(values: Tensor) -> float:
    return float(values.double().quantile(0.01))
