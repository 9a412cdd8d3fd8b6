"""Parameterizations against the literature's formulas, written out here on their own in float64."""

import math

import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.parameterization import DDPM, EDM, Consistency, Flow, TrigFlow, parameterization

SD, EPS = 0.5, 0.002
SIGMAS = torch.tensor([0.002, 0.05, 0.5, 1.0, 7.3, 80.0], dtype=torch.float64)
BARS = tuple(float(b) for b in torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0))


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(len(SIGMAS), 2, 5, generator=generator, dtype=torch.float64) * (SIGMAS.view(-1, 1, 1) + 0.5)


class Recorder(torch.nn.Module):
    """A fixed nonlinear function that remembers what it was given."""

    def forward(self, x, time, condition, time_next=None):
        self.x, self.time = x, time
        return torch.tanh(0.7 * x + time.view(-1, 1, 1))


def estimate(form, x, sigma=SIGMAS):
    network = Recorder()
    return Model(network, form).denoise(x, sigma), network


def column(sigma):
    return sigma.view(-1, 1, 1)


def test_edm(x):
    got, network = estimate(EDM(SD), x)
    s = column(SIGMAS)
    torch.testing.assert_close(network.x, x / (s**2 + SD**2).sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(network.time, SIGMAS.log() / 4, rtol=1e-12, atol=0)
    F = torch.tanh(0.7 * network.x + column(network.time))
    want = SD**2 / (s**2 + SD**2) * x + s * SD / (s**2 + SD**2).sqrt() * F
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_edm_tells_times_apart_far_below_the_least_level_that_is_drawn():
    """Targets of consistency tuning lie as low as 1e-6; at 0 the time is finite."""
    sigma = torch.tensor([1e-6, 1e-4, 1e-3], dtype=torch.float64)
    torch.testing.assert_close(EDM(SD).to_native(sigma), sigma.log() / 4, rtol=1e-12, atol=0)
    assert math.isfinite(EDM(SD).to_native(torch.zeros(())))


def test_consistency_boundary_form(x):
    got, network = estimate(Consistency(SD, EPS), x)
    s = column(SIGMAS)
    F = torch.tanh(0.7 * network.x + column(network.time))
    want = SD**2 / ((s - EPS) ** 2 + SD**2) * x + (s - EPS) * SD / (s**2 + SD**2).sqrt() * F
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    assert torch.equal(got[0], x[0])


def test_trigflow(x):
    got, network = estimate(TrigFlow(SD), x)
    t = torch.arctan(SIGMAS / SD)
    x_t = column(t.cos()) * x
    torch.testing.assert_close(network.x, x_t / SD, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(network.time, t, rtol=1e-12, atol=0)
    F = torch.tanh(0.7 * x_t / SD + column(t))
    torch.testing.assert_close(got, column(t.cos()) * x_t - column(t.sin()) * SD * F, rtol=1e-9, atol=1e-12)
    assert float(t[-1]) == pytest.approx(1.56455, abs=1e-5)


def test_trigflow_is_edm_with_the_sign_turned(x):
    """F_trig = -F_edm, on equal inputs."""
    edm, trig = EDM(SD).coefficients(SIGMAS), TrigFlow(SD).coefficients(SIGMAS)
    torch.testing.assert_close(trig.c_in, edm.c_in, rtol=1e-12, atol=0)
    torch.testing.assert_close(trig.c_skip, edm.c_skip, rtol=1e-12, atol=0)
    torch.testing.assert_close(trig.c_out, -edm.c_out, rtol=1e-12, atol=0)


def test_flow_matching(x):
    got, network = estimate(Flow(), x)
    u = SIGMAS / (1 + SIGMAS)
    x_u = (1 - column(u)) * x
    torch.testing.assert_close(network.x, x_u, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(network.time, u, rtol=1e-12, atol=0)
    v = torch.tanh(0.7 * x_u + column(u))
    torch.testing.assert_close(got, x_u - column(u) * v, rtol=1e-9, atol=1e-12)


def test_flow_velocity_is_trigflow_network(x):
    """F_trig = ((1 - 2u) x_u + (1 - 2u + 2u^2) v) / n for sigma_data = 1, n = sqrt(u^2 + (1-u)^2)."""
    got, network = estimate(Flow(), x)
    u = column(network.time)
    v = torch.tanh(0.7 * network.x + u)
    n = (u**2 + (1 - u) ** 2).sqrt()
    F = ((1 - 2 * u) * network.x + (1 - 2 * u + 2 * u**2) * v) / n
    c = TrigFlow(1.0).coefficients(SIGMAS)
    torch.testing.assert_close(column(c.c_skip) * x + column(c.c_out) * F, got, rtol=1e-9, atol=1e-10)


def test_ddpm_epsilon(x):
    form = DDPM(BARS)
    got, network = estimate(form, x)
    bars = torch.tensor(BARS, dtype=torch.float64)
    table = ((1 - bars) / bars).sqrt()
    s = SIGMAS.clamp(float(table[0]), float(table[-1]))
    high = torch.searchsorted(table, s).clamp(1, 999)
    t = high - 1 + (s / table[high - 1]).log() / (table[high] / table[high - 1]).log()
    torch.testing.assert_close(network.time, t, rtol=1e-9, atol=1e-9)
    epsilon = torch.tanh(0.7 * x / (1 + column(SIGMAS) ** 2).sqrt() + column(t))
    torch.testing.assert_close(got, x - column(SIGMAS) * epsilon, rtol=1e-9, atol=1e-9)
    assert form.sigma_max == pytest.approx(float(table[-1]), rel=1e-12)


def test_a_ddpm_may_know_levels_far_below_those_of_stable_diffusion():
    """Of standard deviation 1e-6 and 1: their geometric mean lies halfway between."""
    form = DDPM((1 - 1e-12, 0.5, 0.1))
    sigma = torch.tensor([1e-6, 1e-3, 1.0, 3.0], dtype=torch.float64)
    times = torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(form.to_native(sigma), times, rtol=0, atol=1e-5)
    torch.testing.assert_close(form.to_sigma(times), sigma, rtol=1e-4, atol=0)


def test_ddpm_is_held_at_the_ends_of_its_table():
    form, ends = DDPM(BARS), torch.tensor([0.0, 999.0], dtype=torch.float64)
    table = torch.tensor([((1 - b) / b) ** 0.5 for b in (BARS[0], BARS[-1])], dtype=torch.float64)
    torch.testing.assert_close(form.to_sigma(ends), table, rtol=1e-12, atol=0)
    assert torch.equal(form.to_sigma(ends + torch.tensor([-5.0, 5.0])), form.to_sigma(ends))
    beyond = torch.tensor([1e-4, 1e4], dtype=torch.float64)
    torch.testing.assert_close(form.to_native(beyond), ends, rtol=1e-12, atol=1e-12)


def test_ddpm_v(x):
    """v = alpha z - sigma x0 with alpha^2 + sigma^2 = 1, hence x0 = alpha x_t - sigma v."""
    got, network = estimate(DDPM(BARS, "v"), x)
    alpha = 1 / (1 + column(SIGMAS) ** 2).sqrt()
    v = torch.tanh(0.7 * alpha * x + column(network.time))
    want = alpha * (alpha * x) - column(SIGMAS) * alpha * v
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", [EDM(SD), Consistency(SD, EPS), TrigFlow(SD), Flow(), DDPM(BARS)], ids=lambda f: f.kind)
def test_raw_sees_the_native_process(form, x):
    """``raw`` on the scaled state gives the network the same input and time as ``denoise`` on the canonical one."""
    sigma = SIGMAS[1:4]
    _, direct = estimate(form, x[1:4], sigma)
    native = Recorder()
    Model(native, form).raw(column(form.scale(sigma)) * x[1:4], form.to_native(sigma), None)
    torch.testing.assert_close(native.x, direct.x, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(native.time, direct.time, rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", [EDM(SD), Consistency(SD, EPS), TrigFlow(SD), Flow()], ids=lambda f: f.kind)
def test_boundary_in_float32(form):
    x = torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(0))
    model = Model(Recorder(), form, "consistency")
    torch.testing.assert_close(model.endpoint(x, form.sigma_boundary), x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", [EDM(SD), Consistency(SD, EPS), TrigFlow(SD), Flow()], ids=lambda f: f.kind)
def test_no_drift_under_autocast(form):
    """At sigma = 80 the estimate is as good in bf16 autocast as the network's own rounding allows."""
    linear = torch.nn.Linear(64, 64)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear

        def forward(self, x, time, condition, time_next=None):
            return self.linear(x) + time.view(-1, 1, 1)

    model = Model(Network(), form)
    x = 80 * torch.randn(4, 1, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        full = model.denoise(x, 80.0)
        with torch.autocast("cpu", torch.bfloat16):
            half = model.denoise(x, 80.0)
    # The network's output alone is rounded: 3 significant digits of |c_out F|, nothing of the size of x = 80.
    sigma = torch.tensor(80.0, dtype=torch.float64)
    allowed = float(form.coefficients(sigma).c_out.abs()) * 0.02
    assert half.dtype == torch.float32
    assert (half - full).abs().max() < allowed


def test_half_precision_input_is_assembled_in_float32():
    model = Model(Recorder(), EDM(SD))
    assert model.denoise(torch.zeros(1, 1, 4, dtype=torch.bfloat16), 80.0).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "form", [EDM(SD), Consistency(SD, EPS), TrigFlow(SD), Flow(), DDPM(BARS), DDPM(BARS, "v")], ids=lambda f: f.kind
)
def test_coefficients_keep_shape_and_dtype(form, dtype):
    sigma = SIGMAS.to(dtype).view(2, 3)
    for value in (
        *form.coefficients(sigma),
        form.to_native(sigma),
        form.scale(sigma),
        form.to_sigma(form.to_native(sigma)),
    ):
        assert (value.shape, value.dtype) == (sigma.shape, dtype)
        assert bool(value.isfinite().all())


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'trigflow'"):
        parameterization("trigflw")
    with pytest.raises(UserError, match="epsilon"):
        DDPM(BARS, "noise")
    with pytest.raises(UserError, match="alphas_cumprod"):
        DDPM((0.9, math.nan))
