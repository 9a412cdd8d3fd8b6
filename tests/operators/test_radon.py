"""Parallel-beam projection: adjoint, millimetres, geometry, filtered back-projection."""

import math

import pytest
import torch

from cmmulti.operators.radon import Radon, covering_bins, fbp
from cmmulti.testing.operators import check_operator, dot_error

WATER = 0.0194


def angles(views):
    return torch.arange(views, dtype=torch.float64) * torch.pi / views


@pytest.mark.parametrize("domain", [(1, 9, 9), (2, 7, 12), (1, 16, 5)])
@pytest.mark.parametrize("geometry", [{}, {"pixel_mm": 0.7, "bin_mm": 1.1}, {"bins": 6}])
def test_contract(domain, geometry):
    check_operator(Radon(domain, angles(5), **geometry))


def test_dot_product_on_a_realistic_size():
    assert dot_error(Radon((1, 65, 48), angles(23), pixel_mm=1.4)) < 1e-10


def disc(size, radius, pixel, supersampling=5):
    """(1, 1, size, size) float64: the share of each pixel inside a centred disc."""
    n = size * supersampling
    line = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * pixel / supersampling
    inside = (line**2 + line[:, None] ** 2 < radius**2).double()
    return torch.nn.functional.avg_pool2d(inside[None, None], supersampling)


def test_line_integrals_of_a_disc_are_chords_in_mm():
    radius, pixel = 40.0, 1.5
    radon = Radon((1, 64, 64), angles(7), pixel_mm=pixel)
    sinogram = radon(WATER * disc(64, radius, pixel))[0, 0]
    offsets = (torch.arange(radon.bins) - (radon.bins - 1) / 2) * radon.bin_mm
    chords = 2 * (radius**2 - offsets.double() ** 2).clamp_min(0).sqrt()
    inside = offsets.abs() < 0.9 * radius
    assert torch.allclose(sinogram[:, inside], (WATER * chords)[inside].expand(7, -1), rtol=0.02)
    assert float(sinogram.max()) == pytest.approx(WATER * 2 * radius, rel=0.01)


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 4, 1.2, math.pi / 2, 2.5])
def test_every_view_holds_the_whole_mass(angle):
    x = torch.rand(1, 1, 13, 10, dtype=torch.float64)
    radon = Radon((1, 13, 10), torch.tensor([angle]), pixel_mm=0.8, bin_mm=0.5)
    assert float(radon(x).sum() * 0.5) == pytest.approx(float(x.sum() * 0.64), rel=1e-9)


def test_directions_are_as_said():
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[0, 0, 1, 6] = 1  # two columns right of the middle, three rows above it
    down, along = Radon((1, 9, 9), angles(2), bins=9)(x)[0, 0]
    assert int(down.argmax()) == 6
    assert int(along.argmax()) == 1


def test_default_detector_sees_the_corners():
    assert covering_bins((30, 40), 1.0, 1.0) >= 50
    x = torch.zeros(1, 1, 12, 16, dtype=torch.float64)
    x[..., 0, 0] = x[..., -1, -1] = 1
    sinogram = Radon((1, 12, 16), angles(31), pixel_mm=2.0)(x)
    assert torch.allclose(sinogram.sum(-1) * 2.0, torch.tensor(2 * 4.0, dtype=torch.float64))


def test_back_projection_of_water_reads_zero_hu():
    pixel, size = 2.0, 96
    radon = Radon((1, size, size), angles(360), pixel_mm=pixel)
    phantom = disc(size, 80.0, pixel)
    image = fbp(radon, radon((WATER * phantom).float()))
    hu = 1000 * (image / WATER - 1)
    middle = disc(size, 70.0, pixel) == 1
    assert abs(float(hu[middle].mean())) < 1
    outside = (disc(size, 90.0, pixel) == 0) & (disc(size, 94.0, pixel) > 0)
    assert abs(float(hu[outside].mean()) + 1000) < 5


@pytest.mark.parametrize("bin_mm", [1.0, 3.0])
def test_back_projection_reads_the_same_on_other_detectors(bin_mm):
    """A disc of water by bins that are narrower or wider than its pixels."""
    pixel, size = 2.0, 64
    radon = Radon((1, size, size), angles(180), pixel_mm=pixel, bin_mm=bin_mm)
    image = fbp(radon, radon((WATER * disc(size, 50.0, pixel)).float()))
    assert float(image[disc(size, 40.0, pixel) == 1].mean()) == pytest.approx(WATER, rel=0.01)


def test_each_view_of_a_back_projection_counts_by_half_the_gaps_beside_it():
    """At 0, 0.1, 0.5 and 2, where pi is 0 again: 0.1 and pi - 2 beside the first, and so on; a view alone counts by pi."""
    uneven = torch.tensor([0.5, 0.0, 2.0, 0.1 + math.pi], dtype=torch.float64)
    weights = [(0.4 + 1.5) / 2, (0.1 + math.pi - 2) / 2, (1.5 + math.pi - 2) / 2, (0.1 + 0.4) / 2]
    domain, views = (1, 8, 8), torch.randn(1, 1, 4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for k, weight in enumerate(weights):
        others_dark = torch.zeros_like(views)
        others_dark[:, :, k] = views[:, :, k]
        got = fbp(Radon(domain, uneven, bins=12), others_dark)
        alone = fbp(Radon(domain, uneven[[k]], bins=12), views[:, :, [k]])
        torch.testing.assert_close(got, alone * weight / math.pi)


def test_back_projection_does_not_depend_on_the_order_of_views():
    radon = Radon((1, 24, 24), angles(40))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = Radon((1, 24, 24), angles(40)[order] + torch.pi * (order % 2).double())
    x = torch.rand(1, 1, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fbp(radon, radon(x)), fbp(shuffled, shuffled(x)), rtol=0, atol=1e-9)


def test_float32_agrees_with_float64():
    radon = Radon((1, 33, 20), angles(12))
    x = torch.rand(3, 1, 33, 20, dtype=torch.float64)
    assert torch.allclose(radon(x.float()).double(), radon(x), rtol=1e-5)
