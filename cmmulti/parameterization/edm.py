"""EDM preconditioning, and its shifted form with an exact boundary above sigma = 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cmmulti.parameterization.base import Coefficients, Parameterization


@dataclass(frozen=True)
class EDM(Parameterization):
    """EDM preconditioning (arXiv 2206.00364, table 1); native time ``ln(sigma) / 4``, boundary at sigma = 0."""

    kind: ClassVar[str] = "edm"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        self._check("sigma_data")

    def coefficients(self, sigma: Tensor) -> Coefficients:
        sd = self.sigma_data
        norm = sigma**2 + sd**2
        return Coefficients(norm.rsqrt(), sd**2 / norm, sigma * sd * norm.rsqrt(), self.to_native(sigma))

    def to_native(self, sigma: Tensor) -> Tensor:
        # The floor keeps the time finite at sigma = 0, where c_out is 0 and the network does not count.
        return sigma.clamp_min(1e-8).log() / 4

    def to_sigma(self, t: Tensor) -> Tensor:
        return (4 * t).exp()

    def scale(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)


@dataclass(frozen=True)
class Consistency(EDM):
    """EDM's scalings shifted so that the estimate is the identity at ``sigma_min`` (arXiv 2303.01469, appendix C).

    ``c_out``'s denominator keeps ``sigma``, not ``sigma - sigma_min``.
    """

    kind: ClassVar[str] = "consistency"
    sigma_data: float = 0.5
    sigma_min: float = 0.002

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("sigma_min", least=0.0)

    def coefficients(self, sigma: Tensor) -> Coefficients:
        sd, shifted = self.sigma_data, sigma - self.sigma_min
        norm = (sigma**2 + sd**2).rsqrt()
        return Coefficients(norm, sd**2 / (shifted**2 + sd**2), shifted * sd * norm, self.to_native(sigma))

    @property
    def sigma_boundary(self) -> float:
        return self.sigma_min
