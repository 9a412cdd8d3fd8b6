"""Variance-preserving networks on a table of discrete times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from cmmulti.errors import UserError, unknown_name
from cmmulti.parameterization.base import Coefficients, Parameterization


@dataclass(frozen=True)
class DDPM(Parameterization):
    """A variance-preserving network on discrete times (DDPM, DDIM, Stable Diffusion's schedules).

    Args:
        alphas_cumprod: alpha-bar for every index, decreasing.
        prediction: ``"epsilon"`` (noise) or ``"v"`` (``alpha z - sigma x0``).
        clip: estimates are held to plus and minus this, as the network's own schedule does; None for no limit.

    The native time is the index, interpolated linearly in ``ln sigma``; outside the table it is held at its ends.
    """

    kind: ClassVar[str] = "ddpm"
    alphas_cumprod: tuple[float, ...] = ()
    prediction: str = "epsilon"
    clip: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "alphas_cumprod", tuple(self.alphas_cumprod))  # a list where it was read from a file
        if self.clip is not None:
            self._check("clip")
        if self.prediction not in ("epsilon", "v"):
            raise unknown_name("DDPM prediction", self.prediction, ("epsilon", "v"))
        numbers = all(isinstance(value, Real) for value in self.alphas_cumprod)
        if not numbers or len(self.alphas_cumprod) < 2 or any(not 0 < b < a < 1 for a, b in pairwise(self.alphas_cumprod)):
            raise UserError("parameterization ddpm: alphas_cumprod: expected at least two values falling inside (0, 1)")

    def coefficients(self, sigma: Tensor) -> Coefficients:
        norm = (1 + sigma**2).rsqrt()
        if self.prediction == "epsilon":
            return Coefficients(norm, torch.ones_like(sigma), -sigma, self.to_native(sigma))
        return Coefficients(norm, norm**2, -sigma * norm, self.to_native(sigma))

    def to_native(self, sigma: Tensor) -> Tensor:
        table = self._log_sigmas(sigma)
        log_sigma = sigma.clamp_min(1e-20).log().clamp(table[0], table[-1])
        high = torch.searchsorted(table, log_sigma.contiguous()).clamp(1, len(table) - 1)
        low = high - 1
        fraction = (log_sigma - table[low]) / (table[high] - table[low])
        return low.to(sigma.dtype) + fraction

    def to_sigma(self, t: Tensor) -> Tensor:
        table = self._log_sigmas(t)
        t = t.clamp(0, len(table) - 1)
        low = t.floor().long().clamp_max(len(table) - 2)
        fraction = t - low
        return (table[low] * (1 - fraction) + table[low + 1] * fraction).exp()

    def scale(self, sigma: Tensor) -> Tensor:
        return (1 + sigma**2).rsqrt()

    @property
    def limit(self) -> float | None:
        return self.clip

    @property
    def sigma_max(self) -> float:
        """The last level that the network was trained on."""
        last = self.alphas_cumprod[-1]
        return math.sqrt((1 - last) / last)

    def _log_sigmas(self, like: Tensor) -> Tensor:
        return _log_sigmas(self.alphas_cumprod, like.device, like.dtype)


@lru_cache(maxsize=16)
def _log_sigmas(bars: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The table of a schedule, once per device: a copy from the host at every evaluation would wait for the device."""
    with torch.inference_mode(False):
        exact = torch.tensor(bars, dtype=torch.float64)
        return (((1 - exact) / exact).log() / 2).to(device, dtype)
