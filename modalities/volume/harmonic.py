"""The smoothest filling of a hole: Laplace's equation with the known voxels around it as boundary."""

from __future__ import annotations

import numpy as np
import scipy

from modalities.volume.item import Array, Volume


def harmonic(volume: Volume, hidden: Array, floor: float = -np.inf) -> Volume:
    """The scan with every hidden voxel at the mean of its six neighbours, weighted by 1 / mm^2; the scan's border is free.

    Args:
        hidden: (I, J, K) bool, not all true. floor: known voxels below it count as it.
    """
    number = np.full(volume.shape, -1)
    number[hidden] = np.arange(int(hidden.sum()))
    values = np.maximum(volume.values().astype(np.float64), floor)
    diagonal, right = np.zeros(int(hidden.sum())), np.zeros(int(hidden.sum()))
    pairs: list[tuple[Array, Array, float]] = []
    for axis, weight in enumerate(1 / volume.voxel_mm**2):
        n = volume.shape[axis]
        low, high = (np.take(number, np.arange(*span), axis).ravel() for span in ((0, n - 1), (1, n)))
        below, above = (np.take(values, np.arange(*span), axis).ravel() for span in ((0, n - 1), (1, n)))
        for here, there, beyond in ((low, high, above), (high, low, below)):
            inside = here >= 0
            np.add.at(diagonal, here[inside], weight)
            edge = inside & (there < 0)
            np.add.at(right, here[edge], weight * beyond[edge])
            both = inside & (there >= 0)
            pairs.append((here[both], there[both], weight))
    rows, columns = (np.concatenate([p[i] for p in pairs]) for i in (0, 1))
    weights = np.concatenate([np.full(len(p[0]), -p[2]) for p in pairs])
    neighbours = scipy.sparse.csr_matrix((weights, (rows, columns)), shape=(len(diagonal),) * 2)
    laplacian = neighbours + scipy.sparse.diags(diagonal)
    start = np.full(len(right), right.sum() / max(diagonal.sum() + weights.sum(), 1e-12))
    solved, _ = scipy.sparse.linalg.cg(laplacian, right, x0=start, rtol=1e-4, maxiter=500)
    filled = np.zeros(volume.shape)
    filled[hidden] = solved
    return volume.with_replaced(hidden, filled)
