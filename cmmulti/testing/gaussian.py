"""Gaussian priors, where every right answer is known in closed form.

For ``x0 ~ N(mu, C)`` and ``x = x0 + sigma n`` the posterior mean is ``mu + C (C + sigma^2)^-1 (x - mu)``, and the
probability-flow trajectory through x passes ``mu + (C + s^2)^1/2 (C + sigma^2)^-1/2 (x - mu)`` at level s. A model whose
network returns exactly that tests samplers, methods and solvers without training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.model import Model, Role
from cmmulti.noise import SIGMA_MAX
from cmmulti.operators.base import LinearOperator
from cmmulti.parameterization import EDM, Parameterization

_Factor = Callable[[Tensor, Tensor], Tensor]
"""(variances, sigma (B, 1)) -> what each coordinate is multiplied by."""


class Posterior(NamedTuple):
    """``x0 | y``: mean (*shape) and covariance (d, d) on flattened elements."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Gaussian:
    """``N(mean, U diag(variances) U^T)`` on tensors (C, *spatial) of d elements, float64.

    Args:
        mean: (C, *spatial). variances: (d,), > 0. basis: U (d, d) orthogonal, on flattened elements.
    """

    mean: Tensor
    variances: Tensor
    basis: Tensor

    @classmethod
    def random(cls, shape: Sequence[int], seed: int = 0, spread: float = 3.0, scale: float = 0.5) -> Gaussian:
        """A prior with correlated elements: standard deviations from ``scale / spread`` to ``scale``, means of its size."""
        generator = torch.Generator().manual_seed(seed)
        d = math.prod(shape)
        basis, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
        deviations = scale * torch.logspace(0, -math.log10(spread), d, dtype=torch.float64)
        mean = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
        return cls(mean, deviations**2, basis)

    @classmethod
    def isotropic(cls, shape: Sequence[int], variance: float, mean: float = 0.0) -> Gaussian:
        """Independent elements of one variance."""
        d = math.prod(shape)
        full = torch.full(tuple(shape), mean, dtype=torch.float64)
        return cls(full, torch.full((d,), variance, dtype=torch.float64), torch.eye(d, dtype=torch.float64))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mean.shape)

    @property
    def covariance(self) -> Tensor:
        """C (d, d)."""
        return (self.basis * self.variances) @ self.basis.T

    def moved(self, gain: float, offset: float) -> Gaussian:
        """The law of ``(x0 - offset) / gain``: the same prior under another representation."""
        return Gaussian((self.mean - offset) / gain, self.variances / gain**2, self.basis)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, C, *spatial) independent draws."""
        normal = torch.randn(n, len(self.variances), generator=generator, dtype=torch.float64)
        return self.mean + ((normal * self.variances.sqrt()) @ self.basis.T).unflatten(1, self.shape)

    def denoised(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """E[x0 | x] of (B, C, *spatial) at ``sigma``, a float or (B,)."""
        return self._along(x, lambda v, s: v / (v + s**2), sigma)

    def trajectory(self, x: Tensor, sigma: Tensor | float, to: Tensor | float = 0.0) -> Tensor:
        """The point at level ``to`` of the probability-flow trajectory through ``x`` at ``sigma``."""
        end = torch.as_tensor(to, dtype=x.dtype, device=x.device).reshape(-1, 1)
        return self._along(x, lambda v, s: ((v + end**2) / (v + s**2)).sqrt(), sigma)

    def posterior(self, operator: LinearOperator, y: Tensor, noise: float) -> Posterior:
        """``x0 | y = A x0 + noise n`` for one measurement ``y`` (*range); ``noise`` is per real component."""
        matrix = real_matrix(operator)
        values = (torch.view_as_real(y) if y.is_complex() else y).flatten().double()
        c = self.covariance
        gain = c @ matrix.T @ torch.linalg.pinv(matrix @ c @ matrix.T + noise**2 * torch.eye(len(matrix), dtype=c.dtype))
        mean = self.mean.flatten() + gain @ (values - matrix @ self.mean.flatten())
        return Posterior(mean.unflatten(0, self.shape), c - gain @ matrix @ c)

    def _along(self, x: Tensor, factor: _Factor, sigma: Tensor | float) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1)
        basis, mean = self.basis.to(x), self.mean.to(x)
        coordinates = (x - mean).flatten(1) @ basis
        return mean + ((factor(self.variances.to(x), level) * coordinates) @ basis.T).unflatten(1, self.shape)


class GaussianNetwork(nn.Module):
    """The network that is exact for a Gaussian prior, in a parameterization's own input, output and time.

    Args:
        prior: what it knows. parameterization: whose ``F`` it returns.
        role: ``"teacher"`` estimates the posterior mean, the others the end of the trajectory; ``"two-time"`` reads
            ``time_next`` and estimates what jumps there.
        learnable: add two parameters, both 0: ``F + gain * (input - its mean) + shift``, for methods to move.
    """

    def __init__(self, prior: Gaussian, parameterization: Parameterization, role: Role, learnable: bool = False) -> None:
        super().__init__()
        self.prior, self.parameterization, self.role = prior, parameterization, role
        self.gain = nn.Parameter(torch.zeros(())) if learnable else None
        self.shift = nn.Parameter(torch.zeros(())) if learnable else None

    def forward(
        self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
    ) -> Tensor:
        sigma = self.parameterization.to_sigma(time.to(torch.promote_types(x.dtype, torch.float32)))
        shape = (-1, *[1] * (x.dim() - 1))
        c_in, c_skip, c_out, _ = (c.view(shape).to(x) for c in self.parameterization.coefficients(sigma))
        noisy = x / c_in
        # Where c_out is 0 the estimate is the input, and the network is not heard.
        output = torch.where(c_out == 0, 0.0, (self._estimate(noisy, sigma, time_next) - c_skip * noisy) / c_out)
        if self.gain is None or self.shift is None:
            return output
        return output + self.gain * (x - c_in * self.prior.mean.to(x)) + self.shift

    def _estimate(self, noisy: Tensor, sigma: Tensor, time_next: Tensor | None) -> Tensor:
        boundary = self.parameterization.sigma_boundary
        if self.role == "teacher":
            return self.prior.denoised(noisy, sigma)
        if time_next is None:
            return self.prior.trajectory(noisy, sigma, boundary)
        there = self.parameterization.to_sigma(time_next.to(sigma))
        ratio = (there / sigma).view(-1, *[1] * (noisy.dim() - 1))
        diagonal = (1 - ratio).abs() < 1e-9
        # No division by 0 even where it is not selected: its gradient would be NaN.
        apart = torch.where(diagonal, 1.0, 1 - ratio)
        jumped = (self.prior.trajectory(noisy, sigma, there) - ratio * noisy) / apart
        return torch.where(diagonal, self.prior.denoised(noisy, sigma), jumped)


def gaussian_model(
    prior: Gaussian,
    role: Role = "teacher",
    parameterization: Parameterization | None = None,
    learnable: bool = False,
    sigma_max: float = SIGMA_MAX,
) -> Model:
    """A model that is exact for ``prior``; EDM's parameterization unless another is given. It follows x's dtype."""
    form = parameterization if parameterization is not None else EDM()
    return Model(GaussianNetwork(prior, form, role, learnable), form, role, sigma_max)


def real_matrix(operator: LinearOperator) -> Tensor:
    """The operator as a float64 matrix between real coordinates; a complex side counts as (real, imaginary) pairs."""
    d = math.prod(operator.domain) * (2 if operator.complex_domain else 1)
    x = torch.eye(d, dtype=torch.float64)
    if operator.complex_domain:
        x = torch.view_as_complex(x.unflatten(1, (-1, 2)).contiguous())
    y = operator(x.unflatten(1, operator.domain))
    return (torch.view_as_real(y) if y.is_complex() else y).flatten(1).T
