"""Noise levels: lists for samplers, and the law of training levels.

Levels are ``sigma`` in model space. Numbers are float64 until a sampler or a method casts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cmmulti.errors import UserError

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0

SINGLE = frozenset({"mps"})
"""Types of devices that know no float64: Apple's GPU."""


def finest(device: torch.device) -> torch.dtype:
    """What training levels are computed in on ``device``: float64 where it has that, else float32."""
    return torch.float32 if device.type in SINGLE else torch.float64


def karras(n: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO) -> Tensor:
    """``n`` decreasing levels of EDM (arXiv 2206.00364, eq. 5), float64, first ``sigma_max`` and last ``sigma_min``."""
    if n < 1:
        raise UserError(f"steps: expected at least 1, got {n}")
    if n == 1:
        return torch.tensor([sigma_max], dtype=torch.float64)
    levels = karras_at(torch.arange(n, dtype=torch.float64) / (n - 1), sigma_min, sigma_max, rho)
    levels[0], levels[-1] = sigma_max, sigma_min
    return levels


def karras_at(position: Tensor, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO) -> Tensor:
    """Levels of the curve that :func:`karras` divides, at ``position`` in [0, 1]: ``sigma_max`` at 0, ``sigma_min`` at 1.

    On the tensor's device and in its dtype, so that training draws levels without a copy from the host.
    """
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + position * (low - high)) ** rho


def few_step_levels(n: int, sigma_max: float = SIGMA_MAX, second: float = 0.8, last: float = 0.3) -> list[float]:
    """Levels for ``n`` evaluations of a consistency model when nobody has searched for better ones.

    One step starts and ends at ``sigma_max``; two steps return to ``second`` (the published midpoints lie between 0.6
    and 1.9); more steps space out evenly in ``ln sigma`` between ``sigma_max / 8`` and ``last``. Small ``sigma_max`` lowers
    both.
    """
    if n < 1:
        raise UserError(f"steps: expected at least 1, got {n}")
    if n <= 2:
        return [sigma_max, min(second, sigma_max / 2)][:n]
    middle = geometric(n - 1, sigma_max / 8, min(last, sigma_max / 16))
    return [sigma_max, *middle]


def geometric(n: int, start: float, stop: float) -> list[float]:
    """``n`` levels evenly spaced in ``ln sigma`` from ``start`` down to ``stop``; ``[start]`` when n is 1."""
    if n == 1:
        return [start]
    ratio = (stop / start) ** (1 / (n - 1))
    return [start * ratio**i for i in range(n)]


def check_levels(levels: Sequence[float] | Tensor, sigma_max: float) -> list[float]:
    """The levels as floats.

    Raises:
        UserError: there are none, or they do not decrease strictly inside ``(0, sigma_max]``.
    """
    values = [float(v) for v in levels]
    if not values:
        raise UserError("levels: expected at least one noise level, got none")
    if any(not math.isfinite(v) or v <= 0 for v in values) or values[0] > sigma_max * (1 + 1e-6):
        raise UserError(f"levels: expected noise levels in (0, {sigma_max:g}], got {values}")
    if any(b >= a for a, b in pairwise(values)):
        raise UserError(f"levels: expected strictly decreasing noise levels, got {values}")
    return values


@dataclass(frozen=True)
class LogNormal:
    """``ln sigma ~ N(mean, std^2)`` (EDM: -1.2, 1.2; ECT: -1.1, 2.0), kept inside ``[minimum, maximum]``."""

    mean: float = -1.2
    std: float = 1.2
    minimum: float = SIGMA_MIN
    maximum: float = SIGMA_MAX

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n,) float32 levels, on the generator's device."""
        normal = torch.randn(n, generator=generator, device=generator.device)
        return (self.mean + self.std * normal).exp().clamp(self.minimum, self.maximum)
