"""Methods under the contract suite, and at their fixed points on Gaussian priors."""

import copy
import math

import pytest
import torch

from cmmulti.conditioning import NO_CONDITION
from cmmulti.errors import UserError
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.cd import CD, CDSettings
from cmmulti.methods.ct import CT, CTSettings
from cmmulti.methods.ect import ECT, ECTSettings
from cmmulti.methods.edm import EDM
from cmmulti.methods.solver import teacher_step
from cmmulti.methods.target import Target
from cmmulti.model import Model
from cmmulti.parameterization import EDM as EDMForm
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.gaussian import Gaussian, gaussian_model
from cmmulti.testing.methods import check_method, loss_of, student_of, teacher_of
from cmmulti.testing.tiny import methods

METHODS = methods()
PRIOR = Gaussian.random((1, 4), seed=2)
BUDGET = Budget(100, 8)
# An even grid and a target that follows at once.
QUICK_CT = CT(CTSettings(first=20, last=20, target_decay=1e-6))
PIECES = {
    **METHODS,
    "cd-average": CD(CDSettings(target_decay=0.9, solver="euler", distance="l2")),
    "cd-itself": CD(CDSettings(target_decay=0.0)),
}


@pytest.mark.parametrize(**check_method.cases(PIECES))
def test_contract(check, piece):
    check(piece)


def ready(method, gain=0.0):
    """The method with the exact function for a student, moved off by ``gain``."""
    model = gaussian_model(PRIOR, method.role, method.parameterization(0.5), learnable=True)
    torch.nn.init.constant_(model.network.gain, gain)
    torch.nn.init.constant_(model.network.shift, gain)
    method.setup(model, gaussian_model(PRIOR) if method.needs_teacher else None, BUDGET)
    return model


def loss(method, model, n=4096, fraction=0.0, step=0):
    x0 = PRIOR.sample(n, torch.Generator().manual_seed(step)).float()
    progress = Progress(step, step * n, fraction)
    return method.loss(model, x0, NO_CONDITION, progress, TrainingRandomness(0, step)).value


def pull(method, gain=0.0, fraction=0.0):
    """Expected gradient on the two parameters."""
    model = ready(method, gain)
    loss(method, model, 30000, fraction).backward()
    return torch.stack([model.network.gain.grad, model.network.shift.grad]).norm()


def test_edm_is_lowest_at_the_posterior_mean():
    losses = [loss(EDM(), ready(EDM(), gain), 30000).item() for gain in (-0.2, 0.0, 0.2)]
    assert losses[1] < min(losses[0], losses[2])
    assert pull(EDM()) < 0.1 * pull(EDM(), 0.2)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_cd_is_zero_at_the_exact_function_but_for_the_step_error(solver, order):
    """The L2 loss there is the squared local error of the teacher's step: order ``2 (p + 1)`` in the step."""
    found = [
        loss(m, ready(m)).item()
        for m in (CD(CDSettings(levels=n, solver=solver, distance="l2", target_decay=0.0)) for n in (60, 120))
    ]
    assert math.log2(found[0] / found[1]) == pytest.approx(2 * (order + 1), abs=0.6)
    assert found[1] < 1e-6


@pytest.mark.parametrize(
    ("coarse", "fine"),
    [
        ((CD(CDSettings(levels=8, distance="l2")), 0.0), (CD(CDSettings(levels=60, distance="l2")), 0.0)),
        ((CT(), 0.002), (CT(), 0.9)),
        ((ECT(), 0.0), (ECT(ECTSettings(stages=8)), 0.99)),
    ],
    ids=["cd", "ct", "ect"],
)
def test_the_update_vanishes_at_the_exact_function_as_steps_shrink(coarse, fine):
    """Relative to the update a little off it."""
    (method, early), (finer, late) = coarse, fine
    before = pull(method, 0.0, early) / pull(method, 0.2, early)
    after = pull(finer, 0.0, late) / pull(finer, 0.2, late)
    assert after < before / 3
    assert after < 0.15


@pytest.mark.parametrize(
    ("method", "fraction"),
    [
        (CD(CDSettings(levels=30, target_decay=0.0)), 0.0),
        (CD(CDSettings(levels=30, target_decay=0.3)), 0.0),
        (QUICK_CT, 0.0),
        (ECT(), 0.99),
    ],
    ids=["cd", "cd-average", "ct", "ect"],
)
def test_training_finds_the_exact_function(method, fraction):
    model = ready(method, 0.3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(150):
        optimizer.zero_grad()
        loss(method, model, 256, fraction, step).backward()
        optimizer.step()
        method.after_step(model, Progress(step + 1, 0, fraction))
    assert model.network.gain.detach().abs() < 0.1  # from 0.3; what is left is the step
    assert model.network.shift.detach().abs() < 0.1


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_the_teacher_step_is_the_solver_step(solver):
    from cmmulti.randomness import SampleRandomness
    from cmmulti.samplers.ode import Euler, Heun

    x = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma, after = torch.full((3,), 2.0, dtype=torch.float64), torch.full((3,), 1.2, dtype=torch.float64)
    got = teacher_step(gaussian_model(PRIOR), 2 * x, sigma, after, NO_CONDITION, solver)
    # The sampler's second evaluation, at level 1.2, starts from the same point.
    seen = []
    sampler = {"euler": Euler(), "heun": Heun()}[solver]
    sampler.sample(gaussian_model(PRIOR), x, [2.0, 1.2], SampleRandomness(range(3)), callback=lambda i: seen.append(i.x0))
    torch.testing.assert_close(PRIOR.denoised(got, 1.2), seen[-1], rtol=1e-9, atol=1e-9)


def test_ct_curriculum():
    """n(k) and mu(k) of the paper: 2 levels at the start, 151 at the end; mu = 0.9 where n = s_0."""
    ct = CT()
    assert [ct.intervals(Progress(0, 0, f)) for f in (0.0, 0.25, 0.5, 1 - 1e-9)] == [1, 75, 106, 150]
    assert ct.decay(Progress(0, 0, 1 - 1e-9)) == pytest.approx(math.exp(2 * math.log(0.9) / 150))
    grows = [ct.intervals(Progress(0, 0, k / 50)) for k in range(50)]
    assert grows == sorted(grows)
    model = ready(ct)
    assert ct.after_step(model, Progress(50, 50, 0.5)).message == "CT: 107 noise levels"


def test_ect_schedule():
    """Stage 0 with q = 2: r = 0 for t < 1.95, r -> t/2 for large t; the last of 8 stages steps by 1/256."""
    ect = ECT()
    t = torch.tensor([0.5, 1.9, 2.0, 80.0])
    r = ect.target_level(t, 0)
    assert r[:2].tolist() == [0, 0]
    assert 0 < float(r[2]) < 0.1
    assert float(r[3]) == pytest.approx(40.0, rel=1e-4)
    assert float(1 - ect.target_level(t, 7)[3] / 80) == pytest.approx(1 / 256, rel=1e-3)
    assert [ect.stage(Progress(0, 0, f)) for f in (0, 0.124, 0.126, 0.999)] == [0, 0, 1, 7]
    events = [ect.after_step(ready(ect), Progress(s, s, s / 16)) for s in range(1, 17)]
    assert [e is not None for e in events] == [s % 2 == 0 and s < 16 for s in range(1, 17)]
    model = ready(ect)
    told = [s for s in range(1, 4000) if ect.after_step(model, Progress(s, s, s / 4000)) is not None]
    assert told == [500 * stage for stage in range(1, 8)]


def test_the_target_average():
    method = CD(CDSettings(target_decay=0.75))
    model = ready(method)
    torch.nn.init.constant_(model.network.gain, 1.0)
    method.after_step(model, Progress(1, 1, 0.0))
    assert float(method.target.copy.network.gain) == pytest.approx(0.25)
    assert method.target.copy.network.gain.requires_grad is False
    assert any(k.startswith("target.copy") for k in method.state_dict())


def test_no_gradient_passes_a_student_that_is_its_own_target():
    """Its first update is that against a copy of itself."""
    gradients = []
    for decay in (0.0, 0.9):
        method = CD(CDSettings(target_decay=decay, solver="euler", distance="l2"))
        model = ready(method, 0.3)
        loss(method, model, 256).backward()
        gradients.append(torch.stack([model.network.gain.grad, model.network.shift.grad]))
    assert gradients[0].norm() > 0
    torch.testing.assert_close(*gradients)


def test_the_target_follows_by_the_decay_of_the_step_that_was_taken():
    """mu = 0.9^2 at the first step, whose grid has n = 1 interval; at the second n is 15."""
    method = CT()
    model = ready(method)
    torch.nn.init.constant_(model.network.gain, 1.0)
    assert method.intervals(Progress(1, 1, 0.01)) == 15
    method.after_step(model, Progress(1, 1, 0.01))
    assert float(method.target.copy.network.gain) == pytest.approx(1 - 0.9**2)


def test_the_target_takes_over_buffers():
    """A network's running statistics are its own averages already."""
    model = Model(torch.nn.BatchNorm1d(1), EDM().parameterization(0.5), "consistency")
    target = Target(model, average=True)
    model.network.running_mean.fill_(3.0)
    target.update(model, 0.99)
    assert float(target.copy.network.running_mean) == 3


@pytest.mark.parametrize("name", METHODS)
def test_no_level_is_above_the_models_highest(name):
    """Which a set's own scale may lower far below 80; nor is any network asked there."""
    method, asked = copy.deepcopy(METHODS[name]), []
    model = student_of(method)
    model.sigma_max = 1.5

    def note(network, inputs):
        asked.append(float(model.parameterization.to_sigma(inputs[1].detach().double()).max()))

    model.network.register_forward_pre_hook(note)
    method.setup(model, teacher_of(method), BUDGET)
    told = torch.cat([loss_of(method, model, step).sigma for step in range(0, 100, 20)])
    assert 0.5 < float(told.max()) <= 1.5 * (1 + 1e-6)
    assert max(asked) <= 1.5 * (1 + 1e-5)


def test_a_consistency_model_is_no_teacher():
    with pytest.raises(UserError, match="expected a denoiser"):
        CD().setup(gaussian_model(PRIOR, "consistency"), gaussian_model(PRIOR, "consistency"), BUDGET)


def test_a_form_that_no_model_folder_can_name_is_found() -> None:
    """Such a method would pass otherwise, and its runs be refused."""

    class Own(EDMForm):
        kind = "own"

    class Theirs(EDM):
        def parameterization(self, sigma_data: float) -> EDMForm:
            return Own(sigma_data)

    check = check_method.checks["says_what_it_is"]
    check(EDM())
    with pytest.raises(AssertionError, match=r"parameterization: 'own' .* expected one of consistency, ddpm, edm"):
        check(Theirs())
