"""Flow matching, in both directions of its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cmmulti.parameterization.base import Coefficients, Parameterization


@dataclass(frozen=True)
class Flow(Parameterization):
    """Flow matching ``x_u = (1-u) x0 + u z`` with velocity ``v = z - x0``: ``u = sigma/(1+sigma)``, ``D = x_u - u v``."""

    kind: ClassVar[str] = "flow"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        u = self.to_native(sigma)
        return Coefficients(1 - u, 1 - u, -u, u)

    def to_native(self, sigma: Tensor) -> Tensor:
        return sigma / (1 + sigma)

    def to_sigma(self, t: Tensor) -> Tensor:
        return t / (1 - t)

    def scale(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)

    def network_input(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)


@dataclass(frozen=True)
class FlowToData(Flow):
    """Flow matching that runs the other way, as the library flow_matching has it: ``x_t = (1-t) z + t x0``, ``v = x0 - z``.

    ``t = 1/(1+sigma)`` is 1 for data, ``D = x_t + (1-t) v``.
    """

    kind: ClassVar[str] = "flow-to-data"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        t = self.to_native(sigma)
        return Coefficients(t, t, 1 - t, t)

    def to_native(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)

    def to_sigma(self, t: Tensor) -> Tensor:
        return (1 - t) / t
