"""Problems on an item's own units and grid: gain, padding and range of the model's tensors do not show in the answer."""

import pytest
import torch

from cmmulti.operators.affine import Affine
from cmmulti.operators.base import Identity
from cmmulti.operators.mask import Mask
from cmmulti.parameterization import EDM
from cmmulti.problems.admm import ADMM
from cmmulti.problems.base import Problem
from cmmulti.problems.dps import DPS
from cmmulti.problems.noisy_replacement import NoisyReplacement
from cmmulti.problems.null_space import NullSpace
from cmmulti.problems.pnp_cm import PnPCM
from cmmulti.problems.proximal_cg import ProximalCG
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from cmmulti.testing.gaussian import Gaussian, gaussian_model

SHAPE = (1, 3, 4)
PRIOR = Gaussian.random(SHAPE, seed=4)
MASK = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 1]]).view(1, 1, 3, 4)
SOLVERS = [
    Replacement(),
    NoisyReplacement(),
    NullSpace(),
    ProximalCG(iterations=12),
    ADMM(iterations=12),
    PnPCM(iterations=12, delta=0.4, momentum=0.3),
    DPS(),
]


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_the_answer_does_not_depend_on_the_representation(solver, noise):
    """One prior in physical units under three gains and offsets: one answer in physical units.

    Noise levels and the model's sigma_data are those of the representation, so they move with the gain.
    """
    size, answers = (3, 4), []
    prior = Gaussian.random(SHAPE, seed=7).moved(gain=0.05, offset=-40.0)  # std 10, mean around 40
    operator = Mask(MASK, SHAPE)
    y = operator(prior.sample(1, torch.Generator().manual_seed(1)))
    y = y + noise * operator(torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    for gain, offset in ((10.0, 40.0), (3.0, -5.0), (200.0, 0.0)):
        affine = Affine(torch.full((1, 1, 1, 1), gain, dtype=torch.float64), torch.full((1, 1, 1, 1), offset), size, (0, 0))
        limits = tuple((v - offset) / gain for v in (-50.0, 120.0))
        problem = Problem.on_item(operator, y, noise, solver, affine, SHAPE, limits)
        model = gaussian_model(prior.moved(gain, offset), "consistency", EDM(5.0 / gain), sigma_max=1000 / gain)
        levels = [v / gain for v in (400.0, 20.0, 8.0, 2.0)]
        start = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        x = Multistep().sample(model, start, levels, SampleRandomness([1, 2]), problem=problem).x
        answers.append(affine.to_item(x))
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0], rtol=0, atol=2e-3)


def test_padding_is_known_not_free():
    """A padded tensor's margin holds its value in every estimate, and the answer inside ignores the margin's noise."""
    affine = Affine(torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 3.0), (3, 2), (0, 1))
    item = torch.arange(6.0).view(1, 1, 3, 2)
    problem = Problem.on_item(Identity((1, 3, 2)), item, 0.0, Replacement(), affine, SHAPE, padding_value=-1.0)
    model = gaussian_model(PRIOR, "consistency")
    seen = []
    got = Multistep().sample(
        model, (1, *SHAPE), [10.0, 1.0], SampleRandomness([0]), problem=problem, callback=lambda i: seen.append(i.x0)
    )
    torch.testing.assert_close(affine.to_item(got.x), item)
    for x0 in (*seen, got.x):
        assert (x0[..., 0] == -1).all()
        assert (x0[..., 3] == -1).all()


def test_valid_range_clamps_estimates():
    problem = Problem(Identity(SHAPE), torch.full((1, *SHAPE), 5.0), 1.0, ProximalCG(), valid_range=(-0.2, 0.3))
    x = Multistep().sample(gaussian_model(PRIOR), (4, *SHAPE), [5.0, 1.0], SampleRandomness(range(4)), problem=problem).x
    assert float(x.max()) == pytest.approx(0.3)
    assert float(x.min()) >= -0.2 - 1e-7
