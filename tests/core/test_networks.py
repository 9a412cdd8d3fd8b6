"""Our U-Net and MONAI's under the contract suite, in one, two and three dimensions."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from cmmulti import registry
from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.nn.embedding import ConditionEmbedding
from cmmulti.nn.forward_mode import Conv2d, GroupNorm, with_forward_mode
from cmmulti.nn.monai import MonaiUNet
from cmmulti.nn.unet import Block, UNet
from cmmulti.parameterization import EDM, TrigFlow
from cmmulti.pipeline.config import Piece, build_network
from cmmulti.pipeline.folder import _shapes_of
from cmmulti.testing.networks import NetworkCase, check_network
from cmmulti.training.network_check import check_network as check_network_of_run

torch.manual_seed(0)
CASES = {
    "unet-1d": NetworkCase(UNet(1, 2, (8, 12), attention=(1,), heads=2, dropout=0.1), (11,), channels=2),
    "unet-2d": NetworkCase(
        UNet(2, 1, (8, 12), attention=(0, 1), heads=2, classes=3, context_width=5), (7, 9), classes=3, context_width=5
    ),
    "unet-3d": NetworkCase(UNet(3, 1, (8, 8), attention=(1,), heads=2), (5, 4, 6)),
    "unet-joint": NetworkCase(UNet(2, 1, (8, 8), classes=3, modalities=2), (7, 9), classes=3, modalities=2),
    "unet-patch": NetworkCase(UNet(2, 1, (8, 8), patch=2, two_times=True, guided=True), (7, 9), two_times=True),
    "unet-double-norm": NetworkCase(
        UNet(2, 1, (8, 8), double_norm=True, two_times=True, time_gap=True), (7, 9), two_times=True
    ),
    "monai-2d": NetworkCase(
        MonaiUNet(2, 1, (8, 16), attention=(1,), groups=4, head_channels=8, classes=3), (7, 9), classes=3, tolerance=5e-3
    ),
    "monai-3d": NetworkCase(
        MonaiUNet(3, 1, (8, 8), groups=4, context_width=5, attention=(1,), head_channels=8),
        (4, 5, 3),
        context_width=5,
        tolerance=5e-3,
    ),
}
# Capturing a graph takes seconds: one stands for all.
SKIP = {"compiles": CASES.keys() - {"unet-patch"}}


@pytest.mark.parametrize(**check_network.cases(CASES, SKIP))
def test_contract(check, piece):
    check(piece)


def test_both_are_registered():
    assert {"unet", "monai"} <= set(registry.names("networks"))
    assert registry.load("networks", "monai") is MonaiUNet


def test_a_network_of_several_modalities_is_not_asked_without_one():
    """The sum would lack a term that it was always trained with."""
    embed = ConditionEmbedding(8, modalities=2)
    with pytest.raises(ValueError, match="a network of 2 modalities; expected one in the condition"):
        embed(torch.zeros(1), NO_CONDITION)


def test_double_normalisation_by_hand():
    """norm(h) pnorm(scale) + pnorm(shift), pnorm(v) = v / sqrt(mean v^2 + 1e-8) over channels."""
    block = Block(1, 4, 4, 3, 2, 0.0, double_norm=True).double()
    seen = []
    block.dropout.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x, embedding = torch.randn(2, 4, 5, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    block(x, embedding)
    h = block.norm2(block.conv1(torch.nn.functional.silu(block.norm1(x))))
    told = (embedding @ block.modulation.weight.T + block.modulation.bias).view(2, 2, 4, 1)
    scale, shift = (told / (told.square().sum(2, keepdim=True) / 4 + 1e-8).sqrt()).unbind(1)
    y = h * scale + shift
    torch.testing.assert_close(seen[0], y / (1 + (-y).exp()))


def test_the_second_time_may_be_told_as_a_gap():
    """With ``time_gap`` equal gaps sound alike but for the first time; without, it is the second time that counts."""
    plain, gap = (ConditionEmbedding(8, two_times=True, time_gap=g) for g in (False, True))
    gap.load_state_dict(plain.state_dict())
    t, r = torch.tensor([0.9]), torch.tensor([0.3])
    torch.testing.assert_close(gap(t, NO_CONDITION, r), plain(t, NO_CONDITION, t - r))
    with pytest.raises(ValueError, match="time_gap: expected two_times"):
        ConditionEmbedding(8, time_gap=True)


@pytest.mark.parametrize("gap", [False, True])
def test_a_network_of_two_times_that_is_told_one_is_on_its_diagonal(gap):
    embedding = ConditionEmbedding(8, two_times=True, time_gap=gap)
    t = torch.tensor([0.9, -0.2])
    torch.testing.assert_close(embedding(t, NO_CONDITION), embedding(t, NO_CONDITION, t))


def test_a_new_network_is_silent():
    """The head starts at zero, so that a fresh model's estimate is ``c_skip x``."""
    x = torch.randn(2, 1, 9, 7)
    model = Model(UNet(2, 1, (8, 8)), EDM())
    c = EDM().coefficients(torch.tensor(3.0))
    torch.testing.assert_close(model.denoise(x, 3.0), c.c_skip * x)


@pytest.mark.parametrize("form", [EDM(), TrigFlow()], ids=lambda f: f.kind)
def test_the_model_has_a_forward_derivative_in_native_time(form):
    """``raw`` under jvp against central differences: what continuous-time methods ask for."""
    case = CASES["unet-2d"]
    model = Model(case.awake().double(), form).eval()
    x, t = torch.randn(2, 1, 7, 9, dtype=torch.float64), torch.tensor([0.3, 0.9], dtype=torch.float64)

    def function(x, t):
        return model.raw(x, t, NO_CONDITION)

    with torch.no_grad():
        _, got = torch.func.jvp(function, (x, t), (torch.ones_like(x), torch.ones_like(t)))
        step = 1e-5
        want = (function(x + step, t + step) - function(x - step, t - step)) / (2 * step)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 7), (2, 6, 4, 5)])
def test_group_norm_in_forward_mode_is_group_norm(shape):
    """Value and derivative are PyTorch's, in the input's order of memory, which PyTorch's own derivative does not take."""
    norm, plain = GroupNorm(2, 6).double(), torch.nn.GroupNorm(2, 6).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    plain.load_state_dict(norm.state_dict())
    x, v = torch.randn(2, *shape, dtype=torch.float64) + 3
    want = torch.func.jvp(plain, (x,), (v,))
    if len(shape) == 4:
        x, v = (a.contiguous(memory_format=torch.channels_last) for a in (x, v))
    got = torch.func.jvp(norm, (x,), (v,))
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
        assert mine.stride() == x.stride()


def test_a_convolution_in_forward_mode_convolves_twice():
    """The value and the tangent: the weights have none."""
    convolution, plain = Conv2d(2, 3, 3, padding=1), torch.nn.Conv2d(2, 3, 3, padding=1)
    plain.load_state_dict(convolution.state_dict())
    x, v = torch.randn(2, 4, 2, 5, 5)
    with torch.profiler.profile() as told:
        got = torch.func.jvp(convolution, (x,), (v,))
    torch.testing.assert_close(got, torch.func.jvp(plain, (x,), (v,)))
    assert sum(event.count for event in told.key_averages() if event.key == "aten::_convolution") == 2


def test_a_gradient_passes_through_a_forward_derivative():
    """Of the derivative, in the weights and the input, as with PyTorch's own parts."""
    network = torch.nn.Sequential(torch.nn.Conv1d(2, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.SiLU()).double()
    x, v = torch.randn(2, 3, 2, 8, dtype=torch.float64)
    x.requires_grad_()

    def gradients():
        value, derivative = torch.func.jvp(network, (x,), (v,))
        loss = value.square().sum() + derivative.square().sum()
        return torch.autograd.grad(loss, [x, *network.parameters()])

    want = gradients()
    with_forward_mode(network)
    torch.testing.assert_close(gradients(), want)


def test_evaluation_in_parts_is_evaluation_at_once():
    case = CASES["unet-2d"]
    x, _, condition = case.inputs(5)
    whole = Model(case.awake(), EDM()).eval()
    parts = Model(case.awake(), EDM(), evaluation_batch=2).eval()
    torch.testing.assert_close(parts.denoise(x, 1.0, condition), whole.denoise(x, 1.0, condition), rtol=1e-4, atol=1e-5)
    assert parts.nfe == 1


def test_dropout_follows_the_mode():
    network = CASES["unet-1d"].awake()
    x, time, _ = CASES["unet-1d"].inputs()
    network.train()
    assert not torch.equal(network(x, time), network(x, time))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": []}, "channels"),
        ({"channels": [8, 0]}, "channels"),
        ({"blocks": 0}, "blocks"),
        ({"blocks": -1}, "blocks"),
        ({"patch": 0}, "patch: expected at least 1, got 0"),
        ({"groups": 0}, "groups: expected at least 1, got 0"),
        ({"heads": 0, "attention": [0]}, "heads: expected at least 1, got 0"),
        ({"heads": -4, "attention": [0]}, "heads: expected at least 1, got -4"),
        ({"attention": [3]}, "attention: expected levels 0 .finest. to 2, or -3 to -1"),
        ({"channels": [16, 30], "attention": [1]}, "heads: expected a divisor of the widths with attention, got 4 for 30"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        UNet(**settings)


@pytest.mark.parametrize("network", [UNet, MonaiUNet])
def test_attention_may_be_named_from_the_coarsest_level_on(network):
    names = [sorted(network(channels=(32, 32), attention=[level], groups=4).state_dict()) for level in (-1, 1)]
    assert names[0] == names[1] != sorted(network(channels=(32, 32), groups=4).state_dict())
    with pytest.raises(ValueError, match=r"attention: expected levels 0 .finest. to 1"):
        network(channels=(32, 32), attention=[2], groups=4)


def test_a_width_may_be_odd():
    network = UNet(channels=(45,), groups=9)
    assert network(torch.zeros(1, 1, 4, 4), torch.zeros(1)).shape == (1, 1, 4, 4)


class Asserting(nn.Module):
    """As many networks are written: what they cannot take is an assertion, with words or without, or no such attribute."""

    def __init__(self, width: int = 2, activation: str = "ReLU") -> None:
        super().__init__()
        assert width % 2 == 0, "an odd width"
        if width <= 0:
            raise AssertionError
        self.activation = getattr(nn, activation)()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION) -> Tensor:
        assert x.shape[-1] % 4 == 0, "a side that is no multiple of 4"
        return self.conv(x)


def test_an_assertion_of_somebodys_network_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmmulti.registry.load", lambda group, name: Asserting)
    for settings, told in [
        ({"width": 3}, "an odd width"),
        ({"width": -2}, "AssertionError"),
        ({"activation": "Elu"}, "Elu"),
    ]:
        with pytest.raises(UserError, match=f"network theirs: .*{told}"):
            build_network(Piece(name="theirs", settings=settings))
    odd = SimpleNamespace(name="toy", shape=(1, 4, 6))
    with pytest.raises(UserError, match=r"does not take toy tensors of shape \(1, 4, 6\): a side that is no multiple of 4"):
        _shapes_of(Piece(name="theirs"), odd, "teacher")
    with pytest.raises(UserError, match=r"does not take toy tensors of shape \(1, 4, 6\): a side that is no multiple of 4"):
        check_network_of_run(Model(Asserting(), EDM()), odd)
