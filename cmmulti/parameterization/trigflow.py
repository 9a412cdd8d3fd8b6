"""TrigFlow: the process as a rotation from data to noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cmmulti.parameterization.base import Coefficients, Parameterization


@dataclass(frozen=True)
class TrigFlow(Parameterization):
    """TrigFlow (arXiv 2410.11081, eq. 3-5): ``x_t = cos(t) x0 + sin(t) sigma_data z``, ``t = arctan(sigma/sigma_data)``.

    ``D = cos(t) x_t - sin(t) sigma_data F(x_t / sigma_data, t)``; F has the opposite sign of EDM's.
    """

    kind: ClassVar[str] = "trigflow"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        self._check("sigma_data")

    def coefficients(self, sigma: Tensor) -> Coefficients:
        sd = self.sigma_data
        norm = sigma**2 + sd**2
        return Coefficients(norm.rsqrt(), sd**2 / norm, -sigma * sd * norm.rsqrt(), self.to_native(sigma))

    def to_native(self, sigma: Tensor) -> Tensor:
        return torch.atan2(sigma, torch.full_like(sigma, self.sigma_data))

    def to_sigma(self, t: Tensor) -> Tensor:
        return self.sigma_data * torch.tan(t)

    def scale(self, sigma: Tensor) -> Tensor:
        return self.sigma_data * (sigma**2 + self.sigma_data**2).rsqrt()

    def network_input(self, sigma: Tensor) -> Tensor:
        # Constant: the quotient of c_in and scale has a derivative of rounding errors, large where sigma is.
        return torch.full_like(sigma, 1 / self.sigma_data)
