"""The exact pieces of the mixture's benchmark: what every figure of its table is measured against."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from cmmulti.model import Model
from cmmulti.parameterization import EDM


@pytest.fixture(scope="module")
def mixture() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "plane.py"
    spec = importlib.util.spec_from_file_location("plane_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def log_density(x: Tensor, sigma: float) -> Tensor:
    """Of six equal Gaussians of deviation 0.16 on a circle of 0.67, after noise; up to a constant."""
    angle = torch.arange(6, dtype=x.dtype) * math.pi / 3
    modes = 0.67 * torch.stack([angle.cos(), angle.sin()], 1)
    return torch.logsumexp(-(x[:, None] - modes).square().sum(2) / (2 * (0.16**2 + sigma**2)), 1)


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 0.6, 5.0, 80.0])
def test_the_denoiser_is_tweedies(mixture: ModuleType, sigma: float) -> None:
    x = (0.5 + sigma) * torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_(True)
    (score,) = torch.autograd.grad(log_density(x, sigma).sum(), x)
    levels = torch.full((64, 1), sigma, dtype=torch.float64)
    torch.testing.assert_close(mixture.denoised(x, levels), x + sigma**2 * score, rtol=1e-9, atol=1e-9)
    teacher = Model(mixture.Exact(), EDM(mixture.SIGMA_DATA), "teacher", mixture.SIGMA_MAX)
    torch.testing.assert_close(teacher.denoise(x, sigma), mixture.denoised(x, levels), rtol=1e-9, atol=1e-9)


def test_trajectories_end_where_another_integrator_says(mixture: ModuleType) -> None:
    start = 80 * torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = mixture.endpoints(start, 80.0)

    def slope(log_sigma: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
        point = torch.from_numpy(x)[None]
        level = torch.full((1, 1), math.exp(log_sigma), dtype=torch.float64)
        result: NDArray[np.float64] = (point - mixture.denoised(point, level))[0].numpy()
        return result

    for one, end in zip(start, found, strict=True):
        path = solve_ivp(slope, (math.log(80), math.log(1e-5)), one.numpy(), "DOP853", rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(end, torch.from_numpy(path.y[:, -1]), rtol=0, atol=2e-5)


def test_samples_have_the_unit_of_the_networks(mixture: ModuleType) -> None:
    x = mixture.draw(100_000, torch.Generator().manual_seed(2))
    torch.testing.assert_close(x.T.cov(), 0.25 * torch.eye(2), rtol=0, atol=3e-3)


def test_exact_trajectories_have_no_error_and_the_energy_of_another_draw(mixture: ModuleType) -> None:
    error, ratio = mixture.figures(lambda x: mixture.endpoints(x.double(), 80.0, steps=150).float(), points=400)
    assert error < 1e-4
    assert 0.6 < ratio < 1.6
