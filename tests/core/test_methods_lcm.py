"""LCM against values worked out from its paper and code."""

from types import SimpleNamespace

import pytest
import torch

from cmmulti.conditioning import NULL_LABEL, Condition
from cmmulti.distances import distance
from cmmulti.errors import UserError
from cmmulti.methods.base import Budget, Progress
from cmmulti.methods.lcm import LCM, LCMSettings
from cmmulti.model import Model
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import DDPM, EDM
from cmmulti.testing.gaussian import Gaussian, gaussian_model
from cmmulti.training.network_check import check_network

PRIOR = Gaussian.isotropic((1, 1), 0.25)
BUDGET = Budget(100, 8)
# alpha-bar of ten indices: sigma = sqrt((1 - a) / a).
BARS = (0.99, 0.95, 0.9, 0.8, 0.64, 0.5, 0.36, 0.2, 0.1, 0.05)


class ByLabel(torch.nn.Module):
    """An EDM network whose estimate is c_skip x + c_out F with F = 0.4 for a label and -0.2 for none."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def forward(self, x, time, condition, time_next=None):
        self.heard.append(condition)
        return torch.where((condition.label != NULL_LABEL).view(-1, 1, 1), 0.4, -0.2) * torch.ones_like(x)


def started(teacher=None, **settings):
    method = LCM(LCMSettings(**settings))
    model = Model(ByLabel(), method.parameterization(0.5), "consistency")
    method.setup(model, teacher if teacher is not None else gaussian_model(PRIOR), BUDGET)
    return method, model


def test_the_levels_of_a_ddpm_teacher():
    """Ten indices in five steps: 9, 7, 5, 3, 1 and then the boundary."""
    method, model = started(Model(ByLabel(), DDPM(BARS)), levels=5)
    want = [19**0.5, 2.0, 1.0, 0.5, 0.229415733870, 0.002]
    assert method.grid(model).tolist() == pytest.approx(want, rel=1e-10)
    method, model = started(Model(ByLabel(), DDPM(tuple(1 - (i + 1) / 1001 for i in range(1000)))))
    # Index 999 has alpha-bar 1/1001, which is sigma = sqrt(1000); then 979, ... 19.
    grid = method.grid(model)
    assert len(grid) == 51
    assert grid[[0, 1, 49, 50]].square().tolist() == pytest.approx([1000, 980 / 21, 20 / 981, 4e-6], rel=1e-9)


@pytest.mark.parametrize("steps", [3, 4, 7, 9, 10, 25])
def test_steps_that_do_not_divide_the_table_begin_at_its_top(steps):
    method, model = started(Model(ByLabel(), DDPM(BARS)), levels=steps)
    grid = method.grid(model)
    assert grid[0] == pytest.approx(19**0.5)
    assert len(grid) == min(steps, len(BARS)) + 1


def test_all_answers_of_a_ddpm_student_rest_on_the_boundary(chosen):
    """The target of the lowest pair is the teacher's point itself, whatever the student's network says."""
    losses = []
    for gain in (1.0, 5.0):
        method, model = started(Model(ByLabel(), DDPM(BARS)), guidance=(1, 1), distance="l2", target_decay=0)
        method.levels = method.levels[-2:]
        answers = iter([1.0, gain])  # the student's, then the target's

        def forward(x, time, condition, time_next=None, answers=answers):
            return next(answers) * torch.ones_like(x)

        model.network.forward = forward
        x0, condition = torch.tensor([[[0.3]]]), Condition(label=torch.zeros(1, dtype=torch.int64))
        losses.append(float(method.loss(model, x0, condition, Progress(0, 0, 0), chosen([0.5], x0)).value))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_student_of_fewer_levels_learns_from_its_own_highest():
    """Of the levels 4.36, 2, 1, ... those above 1.5 give way to it: samples start there."""
    method, model = started(Model(ByLabel(), DDPM(BARS)), levels=5)
    model.sigma_max = 1.5
    assert method.grid(model).tolist() == pytest.approx([1.5, 1.0, 0.5, 0.229415733870, 0.002], rel=1e-10)
    model.sigma_max = 2.0
    assert method.grid(model)[:2].tolist() == pytest.approx([2.0, 1.0])


def test_the_levels_of_another_teacher():
    """Fifty steps of Karras' curve; (80^(1/7) + (0.002^(1/7) - 80^(1/7)) / 50)^7 is the second."""
    method, model = started()
    grid = method.grid(model)
    assert len(grid) == 51
    assert grid[[0, 1, 50]].tolist() == pytest.approx([80.0, 71.6631029484, 0.002], rel=1e-10)


def test_the_loss_by_hand(chosen):
    """w = 3: D = D_null + 3 (D_label - D_null) makes the step; student and target hear w and the label."""
    teacher = Model(ByLabel(), EDM(0.5))
    method, model = started(teacher, guidance=(2, 4), distance="l2")
    method.levels = torch.tensor([2.0, 1.5])
    x0, noise = torch.tensor([[[0.3]]]), torch.tensor([[[-0.7]]])
    condition = Condition(label=torch.zeros(1, dtype=torch.int64))
    loss = method.loss(model, x0, condition, Progress(0, 0, 0), chosen([0.5], noise))
    assert float(loss.value) == pytest.approx(1.9301314e-05, rel=1e-4)
    assert [c.guidance is None for c in teacher.network.heard] == [True, True]
    heard = [*model.network.heard, *method.target.copy.network.heard]
    assert [c.guidance.tolist() for c in heard] == [[3.0], [3.0]]


def test_weights_are_uniform_on_their_range(chosen):
    method, model = started(guidance=(1.0, 5.0))
    x0 = torch.zeros(3, 1, 1)
    condition = Condition(label=torch.zeros(3, dtype=torch.int64))
    method.loss(model, x0, condition, Progress(0, 0, 0), chosen([0.0, 0.25, 0.75], x0))
    assert model.network.heard[0].guidance.tolist() == [1.0, 2.0, 4.0]


def test_the_distance_by_hand():
    """Elements 0 and 0.001: the mean of 0 and 0.001 (sqrt 2 - 1)."""
    a, b = torch.tensor([[0.5, 0.501]]), torch.tensor([[0.5, 0.5]])
    assert float(distance("elementwise-huber", a, b)) == pytest.approx(0.0005 * (2**0.5 - 1), rel=1e-3)


def test_a_network_that_does_not_hear_the_weight_is_refused():
    modality = SimpleNamespace(shape=(1, 4, 6), name="toy")
    deaf, hearing = (Model(UNet(2, 1, (8, 8), guided=guided), EDM(), "consistency") for guided in (False, True))
    check_network(deaf, modality, LCM().tells_guidance is False)
    check_network(hearing, modality, guided=True)
    with pytest.raises(UserError, match=r"network\.guided = true"):
        check_network(deaf, modality, guided=True)


def test_a_method_of_two_times_refuses_a_network_of_one():
    modality = SimpleNamespace(shape=(1, 4, 6), name="toy")
    check_network(Model(UNet(2, 1, (8, 8), two_times=True), EDM(), "two-time"), modality)
    with pytest.raises(UserError, match="two_times=True"):
        check_network(Model(UNet(2, 1, (8, 8)), EDM(), "two-time"), modality)


def test_the_target_is_slow():
    method, model = started(gaussian_model(PRIOR))
    assert method.settings.target_decay == 0.95
    assert method.target.copy is not None
    assert method.target.copy.network is not model.network
