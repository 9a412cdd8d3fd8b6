"""iCT against values worked out from its paper."""

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.ict import ICT, ICTSettings
from cmmulti.model import Model
from cmmulti.testing.gaussian import Gaussian, gaussian_model

# (0.002^(1/7) + i/10 (80^(1/7) - 0.002^(1/7)))^7 for i = 0..10, and the law's shares of its ten intervals.
GRID = [0.002, 0.016720753235, 0.0850872026894, 0.318283288839, 0.965416926332, 2.51521897615, 5.83894763101]
GRID += [12.3815761385, 24.4083417866, 45.3137340752, 80.0]
SHARES = [0.0626329925063, 0.181736979711, 0.245501421967, 0.213494447023, 0.142446058024]
SHARES += [0.0806046216768, 0.0410799062224, 0.0195800922413, 0.00894386841377, 0.00397961221431]


def started(steps=400_000, **settings):
    method = ICT(ICTSettings(**settings))
    method.setup(
        gaussian_model(Gaussian.random((1, 2)), "consistency", method.parameterization(0.5)), None, Budget(steps, 8)
    )
    return method


def at(step, steps=400_000):
    return Progress(step, step, min(step / steps, 1 - 1e-9))


def test_the_grid_doubles_every_50_000_of_400_000_steps():
    method = started()
    steps = [0, 49_999, 50_000, 99_999, 100_000, 150_000, 200_000, 250_000, 300_000, 350_000, 399_999]
    assert [method.levels(at(s)) for s in steps] == [11, 11, 21, 21, 41, 81, 161, 321, 641, 1281, 1281]
    model = gaussian_model(Gaussian.random((1, 2)), "consistency")
    assert method.after_step(model, at(50_000)).message == "iCT: 21 noise levels"
    assert method.after_step(model, at(50_001)) is None


def test_a_last_grid_that_is_no_power_of_two():
    """floor(30/4) = 7, log2 7 + 1 = 3.81, K' = floor(100/3.81) = 26: 4, 8, 16, then 30 intervals."""
    method = started(100, first=4, last=30)
    assert [method.levels(at(s, 100)) for s in (0, 25, 26, 51, 52, 77, 78, 99)] == [5, 5, 9, 9, 17, 17, 31, 31]


def test_the_grid_doubles_at_its_step_whatever_the_rounding_of_the_fraction():
    """Every floor(103 / 8) = 12 of 103 steps; 60 / 103 times 103 is below 60 in floating point."""
    method = started(103)
    assert [method.levels(at(s, 103)) for s in (11, 12, 59, 60)] == [11, 21, 161, 321]


def test_the_law_of_the_pairs():
    """Draws in the middle of each share fall on its interval; the shares are those of an even sweep."""
    edges = torch.tensor([0.0, *SHARES], dtype=torch.float64).cumsum(0)
    low, high = started().pairs(11, (edges[:-1] + edges[1:]) / 2, 0.002, 80.0)
    torch.testing.assert_close(low, torch.tensor(GRID[:-1], dtype=torch.float64), rtol=1e-11, atol=0)
    torch.testing.assert_close(high, torch.tensor(GRID[1:], dtype=torch.float64), rtol=1e-11, atol=0)
    low, _ = started().pairs(11, (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000, 0.002, 80.0)
    found = [float((low - v).abs().lt(1e-9).double().mean()) for v in GRID[:-1]]
    assert found == pytest.approx(SHARES, abs=1.1e-5)
    low, high = started().pairs(11, torch.tensor([0.0, 1 - 2**-24]), 0.002, 80.0)
    assert high.tolist() == pytest.approx([GRID[1], 80.0], rel=1e-11)


def test_the_loss_by_hand(chosen, silent):
    """u = 0.5 falls on (s_3, s_4); f = c_skip x; sqrt(|f - f'|^2 + c^2) - c over s_4 - s_3, c = 0.00054 sqrt(2)."""
    method = started()
    model = Model(silent, method.parameterization(0.5), "consistency")
    x0, noise = torch.tensor([[[0.3, -0.4]]]), torch.tensor([[[-0.7, 1.1]]])
    loss = method.loss(model, x0, NO_CONDITION, at(0), chosen([0.5], noise))
    assert float(loss.sigma) == pytest.approx(0.965416926332, rel=1e-6)
    assert float(loss.value.detach()) == pytest.approx(0.341585747, rel=1e-5)


def test_the_distance_of_a_sample_does_not_depend_on_the_batch(chosen, silent):
    """c goes with the elements of a sample; it is large here, so that it shows."""
    method = started(huber=1.0)
    model = Model(silent, method.parameterization(0.5), "consistency")
    x0, noise = torch.tensor([[[0.3, -0.4]]]), torch.tensor([[[-0.7, 1.1]]])
    alone, three = (
        method.loss(model, x0.expand(n, 1, 2), NO_CONDITION, at(0), chosen([0.5], noise)).per_sample for n in (1, 3)
    )
    torch.testing.assert_close(three, alone.expand(3))


def test_the_target_is_the_student_without_gradient(chosen):
    """d/dshift of the loss at a moved student is that of the upper side alone, scaled by the distance's slope."""
    method = started(huber=0.0)
    prior = Gaussian.isotropic((1, 1), 0.25)
    model = gaussian_model(prior, "consistency", method.parameterization(0.5), learnable=True)
    torch.nn.init.constant_(model.network.gain, 0.3)
    x0, noise = torch.tensor([[[0.2]]]), torch.tensor([[[1.0]]])
    method.loss(model, x0, NO_CONDITION, at(0), chosen([0.5], noise)).value.backward()
    # |f - f'| has slope 1 in f; df/dshift = c_out(s_4) = (s_4 - 0.002) 0.5 / sqrt(s_4^2 + 0.25); w = 1 / (s_4 - s_3).
    c_out = (0.965416926332 - 0.002) * 0.5 / (0.965416926332**2 + 0.25) ** 0.5
    weight = 1 / (0.965416926332 - 0.318283288839)
    assert abs(float(model.network.shift.grad)) == pytest.approx(c_out * weight, rel=1e-4)
