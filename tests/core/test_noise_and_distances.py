"""Laws of training levels, and distances with finite gradients."""

import math

import pytest
import torch

from cmmulti.distances import feature_distance, mean_square, pseudo_huber, squared_l2
from cmmulti.noise import LogNormal, geometric


def test_log_normal_has_its_moments_and_limits():
    law = LogNormal(-1.1, 2.0, 0.002, 80.0)
    sigma = law.sample(20000, torch.Generator().manual_seed(0))
    assert float(sigma.min()) == pytest.approx(0.002)
    assert float(sigma.max()) <= 80
    assert float(sigma.log().median()) == pytest.approx(-1.1, abs=0.06)
    share = (sigma.log() < -1.1 - 2.0).float().mean()
    assert float(share) == pytest.approx(0.1587, abs=0.01)


def test_geometric():
    assert geometric(1, 3.0, 1.0) == [3.0]
    levels = geometric(5, 10.0, 0.1)
    assert levels[0] == 10.0
    assert levels[-1] == pytest.approx(0.1)
    assert len({round(math.log(a / b), 9) for a, b in zip(levels, levels[1:], strict=False)}) == 1


def test_distances_are_per_sample():
    a, b = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    b[1] *= 2
    assert squared_l2(a, b).tolist() == [12, 48]
    assert mean_square(a, b).tolist() == [1, 4]
    torch.testing.assert_close(pseudo_huber(a, b, 3.0), torch.tensor([math.sqrt(21) - 3, math.sqrt(57) - 3]))
    torch.testing.assert_close(pseudo_huber(a, b, 0.0), torch.tensor([12.0, 48.0]).sqrt())


@pytest.mark.parametrize("c", [0.0, 1e-3, 0.03])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_where_both_are_equal(c, dtype):
    a = torch.ones(2, 5, dtype=dtype, requires_grad=True)
    pseudo_huber(a, torch.ones(2, 5, dtype=dtype), c).sum().backward()
    assert bool(a.grad.isfinite().all())
    assert float(a.grad.abs().max()) == 0


def test_feature_distance_is_lpips_without_weights():
    """Written out: 2 - 2 cos of the channel vectors, averaged over positions, summed over layers."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(2, 3, 4, 5), (2, 7, 6)]
    a, b = ([torch.randn(size, generator=generator) for size in sizes] for _ in range(2))
    cosines = [torch.cosine_similarity(x, y, dim=1).flatten(1) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(feature_distance(a, b), sum((2 - 2 * c).mean(1) for c in cosines))
    # The length of a feature does not count, and one that is off in both adds nothing.
    torch.testing.assert_close(feature_distance(a, [3 * x for x in a]), torch.zeros(2))
    off = [torch.zeros_like(x).requires_grad_() for x in a]
    value = feature_distance(off, [torch.zeros_like(x) for x in a])
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert all(bool(x.grad.isfinite().all()) for x in off)
