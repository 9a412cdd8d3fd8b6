"""Search of intermediate levels."""

import math

import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.noise import check_levels, karras
from cmmulti.parameterization import Consistency
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.search import search_levels
from cmmulti.testing.gaussian import Gaussian, GaussianNetwork

GRID = karras(151).tolist()


@pytest.mark.parametrize("target", [(0.8,), (5.0, 0.4), (GRID[1], GRID[2], GRID[150])])
def test_finds_the_minimum_of_a_unimodal_quality(target):
    wanted = [min(GRID, key=lambda g: abs(math.log(g / t))) for t in target]

    def quality(levels):
        missing = len(target) + 1 - len(levels)
        return 10 * missing + sum(abs(math.log(a / b)) for a, b in zip(levels[1:], wanted, strict=False))

    found = search_levels(quality, len(target) + 1, GRID)
    assert list(found.levels[-1][1:]) == wanted
    assert found.best == found.levels[-1]
    assert found.evaluations < 30 * len(target)


def test_room_is_left_for_the_levels_to_come():
    found = search_levels(lambda levels: levels[-1], 3, [9.0, 5.0, 3.0, 1.0])
    assert found.levels[-1] == (9.0, 3.0, 1.0)


def test_no_list_is_tried_that_does_not_decrease():
    tried = []

    def quality(levels):
        tried.append(check_levels(levels, 80.0))
        return abs(math.log(levels[-1] / 3))

    search_levels(quality, 4, GRID)
    assert {len(levels) for levels in tried} == {1, 2, 3, 4}


def test_more_steps_that_do_not_help_are_left_out():
    found = search_levels(len, 3, [9.0, 5.0, 3.0, 1.0])
    assert found.best == (9.0,)


def test_a_real_sampler():
    """A consistency model that blurs at high noise: the found midpoint is the best of the whole grid."""
    prior = Gaussian.random((1, 4), seed=3)
    form = Consistency()

    class Blurring(GaussianNetwork):
        def forward(self, x, time, condition, time_next=None):
            sigma = form.to_sigma(time).view(-1, 1, 1)
            return super().forward(x, time, condition, time_next) - 0.4 * sigma / (1 + sigma) * x

    model = Model(Blurring(prior, form, "consistency"), form, "consistency")
    seeds = range(400)

    def quality(levels):
        x = Multistep().sample(model, (400, 1, 4), levels, SampleRandomness(seeds)).x.flatten(1).double()
        return float((torch.cov(x.T) - prior.covariance).norm())

    grid = karras(24).tolist()
    found = search_levels(quality, 2, grid)
    everything = [quality([grid[0], g]) for g in grid[1:]]
    assert found.values[1] == min(everything)
    assert found.values[1] < found.values[0]


def test_bad_grids_are_refused():
    with pytest.raises(UserError, match="decreasing"):
        search_levels(len, 2, [1.0, 2.0])
    with pytest.raises(UserError, match="1 to 2"):
        search_levels(len, 3, [2.0, 1.0])
