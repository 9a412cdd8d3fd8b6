"""Several networks as one model: each sample is served by the network of its level, and costs one evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.parameterization import EDM, Consistency
from cmmulti.randomness import SampleRandomness
from cmmulti.ranged import Ranged, joined
from cmmulti.samplers.multistep import Multistep


class Scale(nn.Module):
    """``factor * x``, plus the label; counts the samples that it saw."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.seen: list[int] = []

    def forward(self, x: Tensor, time: Tensor, condition: Condition, time_next: Tensor | None = None) -> Tensor:
        self.seen.append(len(x))
        shift = 0.0 if condition.label is None else condition.label.view(-1, *([1] * (x.dim() - 1)))
        return self.factor * x + shift + (0 if time_next is None else time_next.view(-1, 1, 1))


LIMITS = (0.7, 5.0)


def models(role: str = "consistency") -> list[Model]:
    forms = (Consistency(0.5), EDM(0.5), EDM(0.4))  # of one's own, as where the first stage was trained by another method
    return [
        Model(Scale(f), form, role, high) for f, form, high in zip((0.1, 0.2, 0.3), forms, (*LIMITS, 80.0), strict=True)
    ]  # type: ignore[arg-type]


def ranged(parts: list[Model]) -> Ranged:
    low, high = parts[0].sigma_boundary, (*LIMITS, 80.0)
    return Ranged([(part, a, b) for part, a, b in zip(parts, (low, *LIMITS), high, strict=True)])


LEVELS = torch.tensor([80.0, 0.002, 5.0, 0.7, 4.9, 0.69, 6.0])
SERVED = [2, 0, 2, 1, 1, 0, 2]  # a level where two meet is the higher one's


@pytest.mark.parametrize("role", ["teacher", "consistency", "two-time"])
@pytest.mark.parametrize("what", ["denoise", "endpoint", "jump"])
def test_each_sample_is_served_by_the_network_of_its_level(role: str, what: str) -> None:
    parts = models(role)
    model = ranged(parts)
    x, condition = torch.randn(7, 1, 3), Condition(label=torch.arange(7))
    if (role, what) == ("consistency", "denoise"):
        with pytest.raises(UserError, match="consistency model"):
            model.denoise(x, LEVELS, condition)
        return
    extra = (model.sigma_boundary,) if what == "jump" else ()
    if role == "two-time" and what == "endpoint":  # a trajectory ends where the lowest network's does
        what, extra = "jump", (parts[0].sigma_boundary,)
    got = getattr(model, what)(x, LEVELS, *extra, condition)
    for i, part in enumerate(SERVED):
        ends = extra or ((parts[part].sigma_boundary,) if what == "jump" else ())
        if what == "jump" and role == "consistency":
            want = parts[part].endpoint(x[i : i + 1], LEVELS[i : i + 1], condition[i : i + 1])
        else:
            want = getattr(parts[part], what)(x[i : i + 1], LEVELS[i : i + 1], *ends, condition[i : i + 1])
        torch.testing.assert_close(got[i : i + 1], x[i : i + 1] if LEVELS[i] == model.sigma_boundary and extra else want)


def test_a_sample_costs_one_evaluation_and_no_network_sees_another_ones() -> None:
    parts = models()
    model = ranged(parts)
    model.endpoint(torch.zeros(7, 1, 3), LEVELS)
    assert model.nfe == 1
    assert [part.network.seen for part in parts] == [[2], [2], [3]]
    model.endpoint(torch.zeros(4, 1, 3), 0.7)
    model.endpoint(torch.zeros(4, 1, 3), torch.tensor(0.6))
    assert model.nfe == 3
    assert [part.network.seen for part in parts] == [[2, 4], [2, 4], [3]]


def test_samplers_walk_down_through_the_networks() -> None:
    parts = models()
    samples = Multistep().sample(
        ranged(parts), (2, 1, 3), [80.0, 2.0, 0.5], SampleRandomness([0, 1]), Condition(label=torch.full((2,), 1))
    )
    assert samples.nfe == 3
    assert [part.network.seen for part in parts] == [[2], [2], [2]]


def test_gradients_reach_each_network_and_the_input() -> None:
    model = ranged(models())
    x = torch.randn(7, 1, 3, requires_grad=True)
    model.endpoint(x, LEVELS).sum().backward()
    assert x.grad is not None
    assert all(p.grad is not None and float(p.grad) != 0 for p in model.parameters())
    assert len(list(model.parameters())) == len(model.state_dict()) == 3


def test_modes_and_devices_reach_all_of_them() -> None:
    parts = models()
    model = ranged(parts).eval()
    assert not any(part.network.training for part in parts)
    assert model.to(torch.float64).parts[0].network.factor.dtype == torch.float64
    assert model.sigma_boundary == 0.002
    assert model.sigma_max == 80


def test_what_does_not_fit_is_refused() -> None:
    one, two, three = models()
    with pytest.raises(ValueError, match="do not join"):
        Ranged([(one, 0.002, 0.5), (two, 0.7, 80.0)])
    with pytest.raises(ValueError, match="do not join"):
        Ranged([(models("teacher")[0], 0.002, 0.7), (two, 0.7, 80.0)])
    with pytest.raises(UserError, match="of 3 networks"):
        ranged([one, two, three]).raw(torch.zeros(1, 1, 3), torch.zeros(1), NO_CONDITION)
    assert joined([(one, 0.002, 80.0)]) is one
