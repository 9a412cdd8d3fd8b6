"""A mixture of six Gaussians in the plane: draws, the exact denoiser, where trajectories end, and figures of samplers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.parameterization import EDM

MODES, RADIUS, DEVIATION, SIGMA_DATA, SIGMA_MAX = 6, 0.67, 0.16, 0.5, 80.0


def centres(like: Tensor) -> Tensor:
    """(6, 2), evenly on a circle."""
    angle = torch.arange(MODES, dtype=like.dtype) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angle.cos(), angle.sin()], 1)


def draw(n: int, generator: torch.Generator) -> Tensor:
    """(n, 2) points of the mixture, float32. Their variance per coordinate is 0.25."""
    mode = torch.randint(MODES, (n,), generator=generator)
    noise = torch.randn(n, 2, generator=generator)
    return centres(noise)[mode] + DEVIATION * noise


def denoised(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] of (B, 2) at (B, 1) levels."""
    total, modes = DEVIATION**2 + sigma**2, centres(x)
    share = torch.softmax((x @ modes.T) / total, 1)  # the modes have one radius, and |x|^2 is common to all
    return share @ modes + DEVIATION**2 / total * (x - share @ modes)


def endpoints(x: Tensor, sigma: float, steps: int = 500) -> Tensor:
    """Where the trajectories through x (B, 2) float64 end: fourth order in ln sigma, to 1e-5, then the denoiser."""
    step = (math.log(1e-5) - math.log(sigma)) / steps

    def slope(x: Tensor, log_sigma: float) -> Tensor:
        return x - denoised(x, torch.full((len(x), 1), math.exp(log_sigma), dtype=x.dtype))

    for i in range(steps):
        at = math.log(sigma) + i * step
        a = slope(x, at)
        b = slope(x + step / 2 * a, at + step / 2)
        c = slope(x + step / 2 * b, at + step / 2)
        x = x + step / 6 * (a + 2 * b + 2 * c + slope(x + step * c, at + step))
    return denoised(x, torch.full((len(x), 1), 1e-5, dtype=x.dtype))


class Exact(nn.Module):
    """The network of EDM's form whose estimate is the posterior mean."""

    def forward(
        self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
    ) -> Tensor:
        sigma = EDM(SIGMA_DATA).to_sigma(time.double())
        c_in, c_skip, c_out, _ = (c[:, None] for c in EDM(SIGMA_DATA).coefficients(sigma))
        noisy = x.double() / c_in
        return ((denoised(noisy, sigma[:, None]) - c_skip * noisy) / c_out).to(x.dtype)


def energy(a: Tensor, b: Tensor) -> float:
    """Energy distance of two sets as it stands, above 0 for two sets of one law: what ratios are taken of."""
    between, within = torch.cdist(a, b).mean(), torch.cdist(a, a).mean() + torch.cdist(b, b).mean()
    return float(2 * between - within)


@cache
def task(points: int) -> tuple[Tensor, Tensor]:
    """(points, 2) float64 starts at ``SIGMA_MAX`` and where their trajectories end."""
    start = SIGMA_MAX * torch.randn(points, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return start, endpoints(start, SIGMA_MAX)


def median_error(one_step: Callable[[Tensor], Tensor], points: int = 4000) -> float:
    """Median relative error of ``one_step`` from ``SIGMA_MAX``, away from the boundaries."""
    start, wanted = task(points)
    found = one_step(start.float()).double()
    # By symmetry the boundaries are the rays halfway between two modes, at every noise level.
    part = 2 * math.pi / MODES
    angle = torch.atan2(start[:, 1], start[:, 0])
    off = ((angle / part) % 1 - 0.5).abs() * part
    kept = off.sin() > 0.05
    return float(((found - wanted).norm(dim=1) / wanted.norm(dim=1))[kept].median())


def figures(one_step: Callable[[Tensor], Tensor], points: int = 4000) -> tuple[float, float]:
    """:func:`median_error`, and the ratio of energy distances (each a mean over ten sets of half as many points)."""
    generator, ratios = torch.Generator().manual_seed(8), []
    for _ in range(10):
        noise = torch.randn(points // 2, 2, generator=generator)
        reference, other = draw(points // 2, generator), draw(points // 2, generator)
        ratios.append((energy(one_step(SIGMA_MAX * noise), reference), energy(other, reference)))
    return median_error(one_step, points), sum(r[0] for r in ratios) / sum(r[1] for r in ratios)
