"""Distances between sets of features, and how sure a figure is. All in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from scipy.special import stdtrit
from torch import Tensor

Z95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


class Estimate(NamedTuple):
    """A figure with its 95 % interval, whose ends are NaN where nothing tells of it."""

    value: float
    low: float
    high: float


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of the Gaussians fitted to two sets (arXiv 1706.08500, eq. 6).

    Args:
        a, b: features (n, d), n >= 2. The value is biased upwards by about 1/n: compare equal numbers only.

    The trace of the root is that of the symmetric ``(R S2 R)^(1/2)`` with ``R = S1^(1/2)``, by eigenvalues: exact for
    singular covariances, and never complex.
    """
    mean_a, cov_a = _moments(a)
    mean_b, cov_b = _moments(b)
    root = _symmetric_root(cov_a)
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(float(distance), 0.0)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.dim() != 2 or len(x) < 2:
        raise ValueError(f"features: expected (n >= 2, d), got {tuple(x.shape)}")
    x = x.double()
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def _symmetric_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def proportion(successes: int, n: int) -> Estimate:
    """A share with Wilson's 95 % interval."""
    share = successes / n
    centre = share + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    return Estimate(share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def bootstrap(
    statistic: Callable[[Tensor], float], x: Tensor, labels: Tensor | None = None, repeats: int = 200, seed: int = 0
) -> Estimate:
    """``statistic(x)`` with the normal 95 % interval of the bootstrap's standard error, rows drawn with replacement.

    Of the draws only their spread is used: drawing rows twice biases a distance upwards once more. It is cut at 0.

    Args:
        labels: (n,) of rows whose numbers per label were chosen, not drawn: every draw keeps them, for numbers that vary
            would be most of its spread. None, or as many labels as rows: any row takes the place of any other.
    """
    generator = torch.Generator().manual_seed(seed)
    value, rows = statistic(x), torch.arange(len(x))
    groups = [rows] if labels is None else [rows[labels == label] for label in labels.unique()]
    groups = groups if len(groups) < len(x) else [rows]
    draws = [statistic(x[torch.cat([_redrawn(group, generator) for group in groups])]) for _ in range(repeats)]
    # Around its own mean a group of m varies by (m - 1) / m of what it should.
    short = math.sqrt(len(x) / (len(x) - len(groups)))
    half = Z95 * short * float(torch.tensor(draws, dtype=torch.float64).std())
    return Estimate(value, max(0.0, value - half), value + half)


def _redrawn(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randint(len(rows), (len(rows),), generator=generator)]


def mean_interval(values: Sequence[float]) -> Estimate:
    """The mean of independent figures with Student's 95 % interval; its ends are NaN for a single one, which tells none."""
    x = torch.tensor(values, dtype=torch.float64)
    half = float(stdtrit(len(x) - 1, 0.975) * x.std()) / math.sqrt(len(x)) if len(x) > 1 else math.nan
    mean = float(x.mean())
    return Estimate(mean, mean - half, mean + half)
