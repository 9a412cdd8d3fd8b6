"""TCM's second stage against values worked out from its paper and code."""

import copy

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION
from cmmulti.errors import UserError
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.tcm import TCM, TCMSettings
from cmmulti.model import Model
from cmmulti.parameterization import EDM
from cmmulti.testing.gaussian import Gaussian, gaussian_model
from cmmulti.testing.methods import check_method

PRIOR = Gaussian.isotropic((1, 1), 0.25)
BUDGET = Budget(100, 8)


@pytest.mark.parametrize(**check_method.cases({"tcm-edm": TCM(TCMSettings(weighting="edm", huber=0.06))}))
def test_contract(check, piece):
    check(piece)


def started(**settings):
    method = TCM(TCMSettings(**settings))
    model = gaussian_model(PRIOR, "consistency", learnable=True)
    method.setup(model, gaussian_model(PRIOR, "consistency"), BUDGET)
    return method, model


def test_the_law_of_the_levels():
    """Quantiles of ln t under the density (1 + (y / 0.2)^2 / 0.01)^-0.505 on [0, ln 80], integrated elsewhere."""
    method, _ = started()
    shares = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1 - 2**-24])
    got = method.levels(shares).log()
    assert got.tolist() == pytest.approx(
        [0, 0.0125950645, 0.0420797446, 0.199793, 0.925666388, 2.34606336, 4.38202663], rel=1e-4, abs=1e-6
    )


def test_the_target_level_by_hand():
    """n(1) = 1 + 8 / (1 + e) = 3.15153, n(80) = 1; stage 7 steps by 1/256, stage 9 by 1 - 0.999 and not 1/1024."""
    method, _ = started()
    t = torch.tensor([1.0, 80.0], dtype=torch.float64)
    assert method.target_level(t, 7).tolist() == pytest.approx([0.987689330582, 79.6875], rel=1e-11)
    assert method.target_level(t, 9).tolist() == pytest.approx([1 - 3.15153137096e-3, 79.92], rel=1e-11)
    assert method.target_level(torch.tensor([1.0]), 0).tolist() == pytest.approx([1e-6])


def test_the_stages_go_on_from_the_first_training():
    method, model = started(first_stage=5, stages=2)
    assert [method.stage(Progress(0, 0, f)) for f in (0.0, 0.49, 0.5, 0.99)] == [5, 5, 6, 6]
    assert method.after_step(model, Progress(50, 0, 0.5)).message == "TCM stage 6"
    assert method.after_step(model, Progress(51, 0, 0.51)) is None
    # One event per stage, whatever the rounding of the fraction.
    method, model = started(stages=8)
    told = [s for s in range(1, 4000) if method.after_step(model, Progress(s, s, s / 4000))]
    assert told == [500 * stage for stage in range(1, 8)]


@pytest.mark.parametrize(("settings", "want"), [({}, 0.0593383675), ({"weighting": "edm", "huber": 0.06}, 3.65347592e-05)])
def test_the_loss_by_hand(chosen, silent, settings, want):
    """Four samples, f = c_skip x: one at t' = 1, three at the median level; mean of the three + 0.1 times the one."""
    method = TCM(TCMSettings(**settings))
    model, teacher = (Model(copy.deepcopy(silent), EDM(0.5), "consistency") for _ in range(2))
    method.setup(model, teacher, BUDGET)
    x0, noise = torch.tensor([0.3, 0.1, -0.2, 0.4]).view(4, 1, 1), torch.full((4, 1, 1), -0.7)
    loss = method.loss(model, x0, NO_CONDITION, Progress(0, 0, 0), chosen([0.5], noise))
    assert loss.sigma.tolist() == pytest.approx([1.0, *[1.22114995] * 3], rel=1e-4)
    assert float(loss.value.detach()) == pytest.approx(want, rel=1e-3)


def test_a_share_that_is_no_whole_number_of_samples_is_met_on_average(chosen, silent):
    """A quarter of one sample is at t' in a quarter of the draws, that of two in half of them."""

    def at_the_split(n, draw):
        method, models = TCM(), [Model(copy.deepcopy(silent), EDM(0.5), "consistency") for _ in range(2)]
        method.setup(*models, BUDGET)
        x0 = torch.full((n, 1, 1), 0.3)
        loss = method.loss(models[0], x0, NO_CONDITION, Progress(0, 0, 0), chosen([draw], 0 * x0))
        return int((loss.sigma == 1).sum())

    assert [at_the_split(1, u) for u in (0.1, 0.7, 0.8, 0.99)] == [0, 0, 1, 1]
    assert [at_the_split(2, u) for u in (0.1, 0.4, 0.6, 0.99)] == [0, 0, 1, 1]


def test_each_side_of_the_split_has_its_own_target(chosen, silent):
    """The first stage answers at r < t', the student above: moving one moves the loss of its samples alone."""

    def losses(shift, which):
        method, models = TCM(), [Model(copy.deepcopy(silent), EDM(0.5), "consistency") for _ in range(2)]
        method.setup(*models, BUDGET)
        if which is not None:
            torch.nn.init.constant_(models[which].network.shift, shift)
        x0 = torch.full((4, 1, 1), 0.3)
        return method.loss(models[0], x0, NO_CONDITION, Progress(0, 0, 0), chosen([0.5], 0 * x0)).per_sample

    base = losses(0.0, None)
    moved = losses(0.01, 1)
    assert moved[0] != base[0]
    assert torch.equal(moved[1:], base[1:])
    # The student moves by the same on both sides of a short step, so its own samples change little, the boundary's much.
    student = losses(0.01, 0)
    assert (student - base).abs()[0] > 10 * (student - base).abs()[1]


def test_what_is_exported_is_the_pair():
    method, model = started(split=2.0)
    pair = method.exported(model)
    assert [(e.sigma_low, e.sigma_high) for e in pair] == [(0.0, 2.0), (2.0, 80.0)]
    assert pair[0].model is method.teacher
    assert pair[1].model is model


def test_what_it_refuses():
    with pytest.raises(UserError, match="teacher is a teacher model, expected a consistency model"):
        TCM().setup(gaussian_model(PRIOR, "consistency"), gaussian_model(PRIOR), BUDGET)
    with pytest.raises(UserError, match=r"method\.split = 90: expected a level below sigma_max = 80"):
        started(split=90)
    for mean in (-20, 20):
        with pytest.raises(UserError, match=r"method\.degrees = 50: this law has nothing between 1 and 80"):
            started(mean=mean, degrees=50, scale=0.01)
