"""Distances and intervals against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from cmmulti.evaluation.features import Features
from cmmulti.evaluation.generation import SampleSet, Yardstick
from cmmulti.evaluation.sets import RealSet
from cmmulti.evaluation.statistics import bootstrap, frechet_distance, mean_interval, proportion
from cmmulti.evaluation.tables import with_interval


def gaussian(n: int, mean: torch.Tensor, root: torch.Tensor, seed: int) -> torch.Tensor:
    """Rows whose sample mean and covariance are exactly ``mean`` and ``root @ root.T``."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    covariance = x.T @ x / (n - 1)
    return x @ torch.linalg.inv(torch.linalg.cholesky(covariance)).T @ root.T + mean


def test_frechet_distance_of_commuting_gaussians_is_closed_form() -> None:
    zero, scales = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    a = gaussian(50, zero, torch.eye(3, dtype=torch.float64), 0)
    b = gaussian(70, zero + 2, torch.diag(scales), 1)
    assert frechet_distance(a, b) == pytest.approx(12 + float((scales - 1).square().sum()), rel=1e-9)


def test_frechet_distance_agrees_with_the_matrix_root_of_scipy() -> None:
    from scipy.linalg import sqrtm

    generator = torch.Generator().manual_seed(2)
    a, b = (
        torch.randn(40, 5, generator=generator, dtype=torch.float64) @ torch.randn(5, 5, generator=generator).double()
        for _ in range(2)
    )
    s1, s2 = (torch.cov(x.T).numpy() for x in (a, b))
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + (s1 + s2 - 2 * sqrtm(s1 @ s2).real).trace()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_to_itself_is_zero_though_the_covariance_is_singular() -> None:
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + 1) == pytest.approx(9, rel=1e-6)


def test_frechet_distance_refuses_what_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="n >= 2"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))


def test_proportion_stays_inside_zero_and_one_and_holds_the_share() -> None:
    for successes, n in ((0, 20), (20, 20), (13, 20), (650, 1000)):
        value, low, high = proportion(successes, n)
        assert 0 <= low <= value <= high <= 1
        assert value == successes / n
    # Wilson's interval for 13 of 20, computed by hand from the formula.
    assert proportion(13, 20)[1:] == pytest.approx((0.4329, 0.8188), abs=1e-4)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for seed in range(100):
        x = torch.randn(40, 1, generator=generator).square()
        _, low, high = bootstrap(lambda rows: float(rows.mean()), x, repeats=100, seed=seed)
        hits += low <= 1 <= high
    assert 82 <= hits <= 99


def test_the_interval_of_a_distance_is_cut_at_zero() -> None:
    found = bootstrap(lambda rows: float(rows.mean()), torch.arange(10.0)[:, None] - 4.4)
    assert found.value == pytest.approx(0.1)
    assert found.low == 0
    assert found.high > 1


def clusters(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten separated groups of points, a row of each in turn, and their labels."""
    labels = torch.arange(n) % 10
    noise = torch.randn(n, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 10 * torch.eye(10, dtype=torch.float64)[labels] + noise, labels


class AsTheyAre(Features):
    name = hash = "none"

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_the_interval_of_samples_with_labels_in_turn_is_as_wide_as_independent_sets_differ() -> None:
    real = RealSet(*clusters(400, 0))
    yardstick = Yardstick(real, real[:100], real.x, real.x, AsTheyAre())
    spread = 1.96 * float(torch.tensor([frechet_distance(real.x, clusters(100, seed)[0]) for seed in range(1, 31)]).std())
    x, labels = clusters(100, 31)
    found = SampleSet("model", x, x, labels, range(100), 1, 1, 0.0).measured(yardstick).frechet
    assert spread / 2 < found.high - found.value < 3 * spread
    drawn = yardstick.measure("held-out items", x, labels).frechet  # these may be of any class: their counts vary too
    assert drawn.high - drawn.value > 5 * spread


def test_a_group_of_few_rows_does_not_narrow_the_interval() -> None:
    generator, halves = torch.Generator().manual_seed(0), []
    for seed in range(30):
        x = torch.randn(20, 1, generator=generator)
        halves.append(bootstrap(lambda rows: float(rows.mean()) + 9, x, torch.arange(20) % 10, 60, seed))
    widths = torch.tensor([each.high - each.value for each in halves])
    assert float(widths.square().mean().sqrt()) == pytest.approx(1.96 / 20**0.5, rel=0.15)
    single = bootstrap(lambda rows: float(rows.mean()) + 9, torch.randn(20, 1, generator=generator), torch.arange(20))
    assert single.high > single.value


def test_mean_interval_shrinks_with_the_root_of_n() -> None:
    few, many = mean_interval([1.0, 2.0] * 5), mean_interval([1.0, 2.0] * 500)
    assert few.value == many.value == 1.5
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(10 * 2.262 / 1.962, rel=0.06)


@pytest.mark.parametrize("n", [3, 12])
def test_mean_interval_of_few_figures_covers_the_mean_as_often_as_it_says(n: int) -> None:
    x = torch.randn(4000, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    found = [mean_interval(row) for row in x.tolist()]
    assert 0.94 < sum(each.low <= 0 <= each.high for each in found) / len(found) < 0.96


def test_a_single_figure_has_no_interval() -> None:
    single = mean_interval([3.0])
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert with_interval(single) == "3"


def test_a_figure_that_is_none_is_shown_as_a_dash() -> None:
    assert with_interval(mean_interval([math.inf, 3.0])) == with_interval(mean_interval([math.nan])) == "–"
