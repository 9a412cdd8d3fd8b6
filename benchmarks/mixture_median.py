"""Where trajectories of the mixture end when the posterior's geometric median stands for its mean.

    python benchmarks/mixture_median.py

The norm of a difference, unlike its square, is least on average at the median. In the limit of small steps a consistency
method that takes the norm follows it (exactly so where the step's Jacobian is a multiple of the identity). Prints the
error of ``benchmarks/mixture.py`` for both, each by Heun's rule in 150 steps of ln sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from plane import DEVIATION, MODES, SIGMA_MAX, centres, denoised, median_error
from torch import Tensor

Estimate = Callable[[Tensor, float], Tensor]
LOWEST = 0.005


def mean(x: Tensor, sigma: float) -> Tensor:
    return denoised(x, torch.full((len(x), 1), sigma, dtype=x.dtype))


def median(x: Tensor, sigma: float, draws: int = 48, rounds: int = 12) -> Tensor:
    """(B, 2) geometric medians of x0 given x, by Weiszfeld's rule on ``draws`` points of each Gaussian of the posterior."""
    half = torch.randn(draws // 2, 2, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    total, modes = DEVIATION**2 + sigma**2, centres(x)
    weight = torch.softmax(x @ modes.T / total, 1).repeat_interleave(draws, 1) / draws
    middles = modes + DEVIATION**2 / total * (x[:, None] - modes)
    spread = DEVIATION * sigma / math.sqrt(total) * torch.cat([half, -half])
    points = (middles[:, :, None] + spread).reshape(len(x), MODES * draws, 2)
    found = (weight[..., None] * points).sum(1)
    for _ in range(rounds):
        pull = weight / ((points - found[:, None]).norm(dim=2) + 1e-6)
        found = (pull[..., None] * points).sum(1) / pull.sum(1, keepdim=True)
    return found


def ends(x: Tensor, estimate: Estimate, steps: int = 150) -> Tensor:
    """The ends of trajectories from ``SIGMA_MAX`` of ``dx / d ln sigma = x - estimate``."""
    x = x.double()
    levels = torch.linspace(math.log(SIGMA_MAX), math.log(LOWEST), steps + 1).exp().tolist()
    for here, there in zip(levels, levels[1:], strict=False):
        step = math.log(there / here)
        slope = x - estimate(x, here)
        ahead = x + step * slope
        x = x + step / 2 * (slope + ahead - estimate(ahead, there))
    return mean(x, LOWEST)


def main() -> None:
    torch.set_num_threads(1)
    for name, estimate in (("mean", mean), ("median", median)):
        error = median_error(partial(ends, estimate=estimate), points=600)
        print(f"{name}: error {100 * error:.1f} %", flush=True)


if __name__ == "__main__":
    main()
