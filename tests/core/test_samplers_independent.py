"""Samplers against other people's implementations: the same network, levels and noise, to 1e-5.

diffusers' schedulers are run as its pipelines run them; k-diffusion's and the papers' algorithms are written out here.
"""

import math

import diffusers
import pytest
import torch
from torch import nn

from cmmulti.model import Model
from cmmulti.noise import karras
from cmmulti.parameterization import DDPM, EDM, Consistency, Flow
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.dpm_solver import DPMSolver
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.ode import Euler, Heun, StochasticHeun

SHAPE = (3, 1, 4, 4)
SEEDS = (3, 4, 5)
BARS = tuple(float(b) for b in torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0))


class Network(nn.Module):
    """A fixed, nonlinear function of tensor and time, smooth in both."""

    def __init__(self, time_scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(8)
        self.register_buffer("mix", torch.randn(16, 16, generator=generator) / 4)
        self.time_scale = time_scale

    def forward(self, x, time, condition=None, time_next=None):
        h = torch.tanh(x.flatten(1) @ self.mix.to(x) + (self.time_scale * time)[:, None])
        return (0.5 * torch.sin(h @ self.mix.to(x)) + 0.2 * h).view_as(x)


def unit_noise():
    return SampleRandomness(SEEDS, "start").normal(SHAPE)


def ours(sampler, form, levels, time_scale=1.0, dtype=torch.float32):
    model = Model(Network(time_scale), form, "teacher" if not isinstance(form, Consistency) else "consistency", 200.0)
    return sampler.sample(model, unit_noise().to(dtype), levels, SampleRandomness(SEEDS)).x


def theirs(scheduler, network, start, **more):
    """As diffusers' own pipelines walk a scheduler."""
    x = start
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), t.expand(len(x)).float())
        x = scheduler.step(output, t, x, **more).prev_sample
    return x


def agree(got, want):
    """diffusers computes in float32, from sigma = 80 on."""
    error = float((got - want).norm() / want.norm())
    assert error < 1e-5, error


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        (Euler(), diffusers.EDMEulerScheduler()),
        (DPMSolver(), diffusers.EDMDPMSolverMultistepScheduler(lower_order_final=False)),
    ],
    ids=["euler", "dpm-solver++"],
)
@pytest.mark.parametrize("steps", [5, 18, 35])
def test_edm_schedulers(sampler, scheduler, steps):
    scheduler.set_timesteps(steps)
    levels = karras(steps, sigma_max=80.0)
    torch.testing.assert_close(scheduler.sigmas[:-1].double(), levels, rtol=1e-6, atol=0)
    agree(ours(sampler, EDM(0.5), levels), theirs(scheduler, Network(), 80.0 * unit_noise()))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [(Heun(), diffusers.HeunDiscreteScheduler), (DPMSolver(), diffusers.DPMSolverMultistepScheduler)],
    ids=["heun", "dpm-solver++"],
)
def test_schedulers_of_ddpm_networks(sampler, scheduler, prediction):
    """Karras' levels between the indices of a DDPM, so that times are interpolated; the network hears them."""
    scheduler = scheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type=prediction,
        use_karras_sigmas=True,
        **({"final_sigmas_type": "zero"} if isinstance(sampler, DPMSolver) else {}),
    )
    scheduler.set_timesteps(20)
    levels = scheduler.sigmas[:-1].double().unique().flip(0)
    start = float(levels[0]) * unit_noise()
    if isinstance(sampler, DPMSolver):  # its tensors are of the process that keeps the variance, and its times are rounded
        start = start / math.sqrt(1 + float(levels[0]) ** 2)
        form, network = RoundedTimes(BARS, "v" if prediction == "v_prediction" else "epsilon"), Network(0.002)
    else:
        form, network = DDPM(BARS, "v" if prediction == "v_prediction" else "epsilon"), Network(0.002)
    agree(ours(sampler, form, levels, 0.002), theirs(scheduler, network, start))


class RoundedTimes(DDPM):
    def to_native(self, sigma):
        return super().to_native(sigma).round()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_ddim_is_eulers_method(prediction):
    scheduler = diffusers.DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, prediction_type=prediction, clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(20)
    form = DDPM(BARS, "v" if prediction == "v_prediction" else "epsilon")
    levels = form.to_sigma(scheduler.timesteps.double())
    start = (1 - BARS[-1]) ** 0.5 * unit_noise()
    agree(ours(Euler(), form, levels, 0.002), theirs(scheduler, Network(0.002), start))


def test_flow_matching():
    """From u = 0.99: at u = 1 there is nothing of a picture left, and sigma has no value."""
    u = torch.linspace(0.99, 0.05, 12, dtype=torch.float64)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=u.tolist())
    start = 0.99 * unit_noise()

    x = start
    for t in scheduler.timesteps:
        x = scheduler.step(Network()(x, t.expand(len(x)) / 1000), t, x).prev_sample
    agree(ours(Euler(), Flow(), u / (1 - u)), x)


@pytest.mark.parametrize("indices", [[0], [22, 0], [30, 22, 7, 0]], ids=len)
def test_consistency_models_are_sampled_in_several_steps(indices):
    """The scheduler turns its list of indices round, and its network hears 250 ln sigma."""
    scheduler = diffusers.CMStochasticIterativeScheduler(clip_denoised=False)
    scheduler.set_timesteps(timesteps=sorted(indices, reverse=True))
    levels = karras(40)[sorted(indices)]
    torch.testing.assert_close(scheduler.sigmas[:-1].double(), levels, rtol=1e-5, atol=0)
    want = theirs(scheduler, Network(0.001), 80.0 * unit_noise(), generator=SampleRandomness(SEEDS)._generators)
    agree(ours(Multistep(), Consistency(0.5, 0.002), levels), want)


def k_diffusion_heun(denoise, x, sigmas, draws, s_churn, s_tmin, s_tmax, s_noise):
    """``sample_heun`` of k_diffusion/sampling.py, as it stands there but for where noise comes from."""
    for i in range(len(sigmas) - 1):
        gamma = min(s_churn / (len(sigmas) - 1), 2**0.5 - 1) if s_tmin <= sigmas[i] <= s_tmax else 0.0
        sigma_hat = sigmas[i] * (gamma + 1)
        if gamma > 0:
            eps = draws.normal(x.shape) * s_noise
            x = x + eps * (sigma_hat**2 - sigmas[i] ** 2) ** 0.5
        d = (x - denoise(x, sigma_hat)) / sigma_hat
        dt = sigmas[i + 1] - sigma_hat
        if sigmas[i + 1] == 0:
            x = x + d * dt
        else:
            x_2 = x + d * dt
            d_2 = (x_2 - denoise(x_2, sigmas[i + 1])) / sigmas[i + 1]
            x = x + (d + d_2) / 2 * dt
    return x


def k_diffusion_dpmpp_2m(denoise, x, sigmas):
    """``sample_dpmpp_2m`` of k_diffusion/sampling.py."""

    def t_fn(sigma):
        return -math.log(sigma) if sigma > 0 else math.inf

    old_denoised = None
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i])
        t, t_next = t_fn(sigmas[i]), t_fn(sigmas[i + 1])
        h = t_next - t
        if old_denoised is None or sigmas[i + 1] == 0:
            x = (sigmas[i + 1] / sigmas[i]) * x - math.expm1(-h) * denoised
        else:
            h_last = t - t_fn(sigmas[i - 1])
            r = h_last / h
            denoised_d = (1 + 1 / (2 * r)) * denoised - (1 / (2 * r)) * old_denoised
            x = (sigmas[i + 1] / sigmas[i]) * x - math.expm1(-h) * denoised_d
        old_denoised = denoised
    return x


@pytest.mark.parametrize(
    ("n", "churn"),
    [(18, (30.0, 0.01, 1.0, 1.007)), (64, (40.0, 0.05, 50.0, 1.003)), (18, (0.0, 0.0, 80.0, 1.0))],
    ids=["cifar-10", "imagenet-64", "none"],
)
def test_k_diffusions_heun(n, churn):
    model = Model(Network(), EDM(0.5))
    levels = karras(n)
    want = k_diffusion_heun(
        model.denoise, 80.0 * unit_noise().double(), [*levels.tolist(), 0.0], SampleRandomness(SEEDS), *churn
    )
    torch.testing.assert_close(
        ours(StochasticHeun(*churn), EDM(0.5), levels, dtype=torch.float64), want, rtol=1e-6, atol=1e-6
    )


def test_k_diffusions_dpm_solver():
    model, levels = Model(Network(), EDM(0.5)), karras(18)
    want = k_diffusion_dpmpp_2m(model.denoise, 80.0 * unit_noise().double(), [*levels.tolist(), 0.0])
    torch.testing.assert_close(ours(DPMSolver(), EDM(0.5), levels, dtype=torch.float64), want, rtol=1e-6, atol=1e-6)
