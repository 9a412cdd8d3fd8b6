"""Models of diffusers: the maps on networks whose right answer is known, and folders that are refused."""

import json
import math
from collections import namedtuple
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cmmulti.conditioning import Condition
from cmmulti.conversion import from_diffusers
from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.parameterization import FlowToData
from cmmulti.pipeline import Pipeline
from cmmulti.testing.gaussian import Gaussian

MEAN, VARIANCE = 0.3, 0.2
PRIOR = Gaussian.isotropic((1, 4, 4), VARIANCE, MEAN)
SMALL = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}


def unet(seed=0, **more):
    torch.manual_seed(seed)
    return diffusers.UNet2DModel(**{**SMALL, "in_channels": 1, "out_channels": 1, **more})


def folder(path, network, scheduler):
    """As diffusers' pipelines save themselves."""
    network.save_pretrained(path / "unet", safe_serialization=True)
    scheduler.save_pretrained(path / "scheduler")
    return path


class Exact(nn.Module):
    """What a perfect network of a process answers for Gaussian data, written out from the process itself.

    ``x_t = a x0 + b z``: E[x0 | x_t] and E[z | x_t] are linear; the target is ``of_z E[z] + of_x0 E[x0]``.
    """

    config = namedtuple("Config", "block_out_channels")((8,))

    def __init__(self, a, b, of_x0, of_z, variance_channels=False):
        super().__init__()
        self.tables, self.variance_channels = (
            [torch.tensor(v, dtype=torch.float64) for v in (a, b, of_x0, of_z)],
            variance_channels,
        )

    def forward(self, x, time, label, return_dict):
        assert torch.equal(time, time.round())
        a, b, of_x0, of_z = (table[time.long()].view(-1, 1, 1, 1) for table in self.tables)
        total = a**2 * VARIANCE + b**2
        x0 = MEAN + a * VARIANCE / total * (x - a * MEAN)
        z = b / total * (x - a * MEAN)
        answer = of_x0 * x0 + of_z * z
        return (torch.cat([answer, torch.full_like(answer, 9.0)], 1) if self.variance_channels else answer,)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize(("prediction", "variance"), [("epsilon", False), ("epsilon", True), ("v_prediction", False)])
def test_ddpm_networks_denoise_exactly(tmp_path, schedule, prediction, variance):
    scheduler = diffusers.DDPMScheduler(beta_schedule=schedule, prediction_type=prediction, clip_sample=False)
    made = from_diffusers(folder(tmp_path, unet(out_channels=2 if variance else 1), scheduler))
    bars = torch.cumprod(1 - scheduler.betas.double(), 0)
    a, b = bars.sqrt(), (1 - bars).sqrt()
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    target = (zero, one) if prediction == "epsilon" else (-b, a)
    made.model.network.unet = Exact(a.tolist(), b.tolist(), *(t.tolist() for t in target), variance)
    sigmas = (b / a)[torch.tensor([0, 10, 400, 700])]
    x = MEAN + torch.randn(4, 1, 4, 4, dtype=torch.float64) * (VARIANCE + sigmas**2).sqrt().view(-1, 1, 1, 1)
    made.model.parameterization, form = Whole(made.model.parameterization), made.model.parameterization
    torch.testing.assert_close(made.model.denoise(x, sigmas), PRIOR.denoised(x, sigmas), rtol=1e-7, atol=1e-7)
    assert form.sigma_max == pytest.approx(float(b[-1] / a[-1]), rel=1e-9)
    assert made.model.sigma_max == pytest.approx(min(float(b[-1] / a[-1]), 80.0))


class Whole:
    """A form whose times are told without the rounding errors of a logarithm."""

    def __init__(self, form):
        self.form = form

    def coefficients(self, sigma):
        c = self.form.coefficients(sigma)
        torch.testing.assert_close(c.c_noise, c.c_noise.round(), rtol=0, atol=1e-6)
        return c._replace(c_noise=c.c_noise.round())

    def __getattr__(self, name):
        return getattr(self.form, name)


def test_flow_networks_denoise_exactly(tmp_path):
    """The network is told u in steps of a thousandth."""
    made = from_diffusers(folder(tmp_path, unet(), diffusers.FlowMatchEulerDiscreteScheduler()))
    u = torch.linspace(0, 1, 1001, dtype=torch.float64)
    made.model.network.unet = Exact(
        (1 - u).tolist(), u.tolist(), (-torch.ones_like(u)).tolist(), torch.ones_like(u).tolist()
    )
    sigmas = (u / (1 - u))[torch.tensor([0, 10, 500, 980])]
    x = torch.randn(4, 1, 4, 4, dtype=torch.float64) * (VARIANCE + sigmas**2).sqrt().view(-1, 1, 1, 1)
    made.model.network.register_forward_pre_hook(lambda _, given: (given[0], (given[1] * 1000).round() / 1000, *given[2:]))
    torch.testing.assert_close(made.model.denoise(x, sigmas), PRIOR.denoised(x, sigmas), rtol=1e-9, atol=1e-9)


def test_flow_that_ends_in_the_data():
    """x_t = (1 - t) z + t x0 with v = x0 - z, written out for Gaussian data."""

    class Velocity(nn.Module):
        def forward(self, x, time, condition, time_next=None):
            t = time.view(-1, 1, 1, 1)
            total = t**2 * VARIANCE + (1 - t) ** 2
            return MEAN + (t * VARIANCE - (1 - t)) / total * (x - t * MEAN)

    sigmas = torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    got = Model(Velocity(), FlowToData()).denoise(x, sigmas)
    torch.testing.assert_close(got, PRIOR.denoised(x, sigmas), rtol=1e-9, atol=1e-9)


def test_estimates_keep_to_the_clip_range(tmp_path):
    scheduler = diffusers.DDPMScheduler(clip_sample=True, clip_sample_range=0.7)
    made = from_diffusers(folder(tmp_path, unet(), scheduler))
    assert float(made.model.denoise(10 * torch.randn(2, 1, 8, 8), 30.0).detach().abs().max()) == pytest.approx(0.7)
    free = from_diffusers(folder(tmp_path, unet(), diffusers.EulerDiscreteScheduler()))
    assert float(free.model.denoise(10 * torch.randn(2, 1, 8, 8), 30.0).detach().abs().max()) > 1


def test_a_folder_is_the_same_network_afterwards(tmp_path):
    """Against diffusers' own call, at a time of the table; then through a model folder of ours."""
    theirs = unet(num_class_embeds=3).eval()
    made = from_diffusers(folder(tmp_path / "theirs", theirs, diffusers.DDPMScheduler(clip_sample=False)))
    x, label = torch.randn(2, 1, 8, 8), torch.tensor([2, 0])
    sigma = made.model.parameterization.to_sigma(torch.tensor([500.0], dtype=torch.float64)).float().expand(2)
    with torch.no_grad():
        epsilon = theirs(x / (1 + sigma[0] ** 2).sqrt(), 500, label).sample
        want = x - sigma[0] * epsilon
        got = made.model.denoise(x, sigma, Condition(label=label))
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
    assert made.modality.shape == (1, 8, 8)
    assert made.config.classes == ["0", "1", "2"]
    again = Pipeline.from_pretrained(made.save_pretrained(tmp_path / "ours"))
    torch.testing.assert_close(again.model.denoise(x, sigma, Condition(label=label)), got)


def test_the_last_class_may_be_none(tmp_path):
    theirs = unet(num_class_embeds=4).eval()
    made = from_diffusers(folder(tmp_path, theirs, diffusers.DDPMScheduler()), null_class=True)
    assert len(made.config.classes) == 3
    x, time = torch.randn(2, 1, 8, 8), torch.tensor([10.0, 20.0])
    with torch.no_grad():
        want = theirs(x, time, torch.tensor([3, 3])).sample
        torch.testing.assert_close(made.model.network(x, time), want, rtol=1e-4, atol=1e-5)


def test_a_table_of_times_is_told_whole_ones(tmp_path):
    theirs = unet(time_embedding_type="learned", num_train_timesteps=1000).eval()
    made = from_diffusers(folder(tmp_path, theirs, diffusers.DDPMScheduler()))
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        want = theirs(x, torch.tensor([10, 20])).sample
        torch.testing.assert_close(made.model.network(x, torch.tensor([10.4, 19.6])), want, rtol=1e-4, atol=1e-5)


def broken(path, how):
    """A good folder with one thing wrong."""
    folder(path, unet(), diffusers.DDPMScheduler())
    weights = path / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    if how == "missing keys":
        save_file({k: v for k, v in state.items() if "mid_block" not in k}, weights)
    elif how == "wrong shapes":
        save_file({k: v.repeat(2, *[1] * (v.dim() - 1)) if k == "conv_in.weight" else v for k, v in state.items()}, weights)
    elif how == "surplus keys":
        save_file({**state, "another.weight": torch.zeros(3)}, weights)
    elif how == "not finite":
        save_file({k: v * math.nan if k == "conv_in.bias" else v for k, v in state.items()}, weights)
    elif how == "no weights":
        weights.unlink()
    elif how == "pickle":
        weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    elif how == "damaged":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif how == "no scheduler":
        (path / "scheduler" / "scheduler_config.json").unlink()
    else:
        part, key, value = how
        file = path / part
        file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    return path


UNET, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing keys", "missing"),
        ("wrong shapes", "conv_in.weight"),
        ("surplus keys", r"unexpected, first another\.weight"),
        ("not finite", r"conv_in\.bias holds NaN"),
        ("no weights", "none found"),
        ("pickle", r"diffusion_pytorch_model\.bin is a pickle, which is never loaded"),
        ("damaged", "cannot be loaded"),
        ("no scheduler", "scheduler_config.json: no such file"),
        ((UNET, "_class_name", "UNet2DConditionModel"), "expected 'UNet2DModel'"),
        ((UNET, "time_embedding_type", "fourier"), "time_embedding_type = 'fourier'"),
        ((UNET, "class_embed_type", "timestep"), "class_embed_type = 'timestep'"),
        ((UNET, "out_channels", 3), "out_channels = 3; expected 1, or 2 with a learned variance"),
        ((SCHEDULER, "prediction_type", "sample"), "prediction_type = 'sample'; expected one of epsilon, v_prediction"),
        ((SCHEDULER, "num_train_timesteps", "many"), "num_train_timesteps = 'many'; expected 1 to"),
        ((SCHEDULER, "num_train_timesteps", 10**12), "num_train_timesteps = 1000000000000; expected 1 to"),
        ((SCHEDULER, "beta_schedule", "steep"), "scheduler_config.json: cannot be read as a diffusers scheduler"),
        ((SCHEDULER, "beta_end", 3.0), r"scheduler_config.json: its betas give no alphas_cumprod"),
        ((SCHEDULER, "_class_name", "UNet2DModel"), "expected a scheduler of diffusers"),
        ((SCHEDULER, "_class_name", "KarrasVeScheduler"), "expected a scheduler of"),
        ((SCHEDULER, "_class_name", "LCMScheduler"), "LCMScheduler samples a distilled network"),
        ((SCHEDULER, "_class_name", "FlowMatchLCMScheduler"), "FlowMatchLCMScheduler samples a distilled network"),
        ((SCHEDULER, "_class_name", "CogVideoXDDIMScheduler"), "CogVideoXDDIMScheduler; its alphas_cumprod are not"),
        ((SCHEDULER, "thresholding", True), "thresholding = True; expected false"),
        ((SCHEDULER, "invert_sigmas", True), "invert_sigmas = True; expected false"),
        ((SCHEDULER, "_class_name", "EDMEulerScheduler"), "expected a scheduler of DDPM's process or of flow matching"),
    ],
    ids=str,
)
def test_bad_folders_are_refused_in_one_line(tmp_path, how, told):
    with pytest.raises(UserError, match=told) as caught:
        from_diffusers(broken(tmp_path, how))
    assert "\n" not in str(caught.value)


def test_a_network_told_levels_for_indices_is_refused(tmp_path):
    """Euler's continuous times are ln(sigma) / 4, no index of a table; of epsilon the scheduler itself ignores them."""
    told = {"timestep_type": "continuous"}
    path = folder(tmp_path / "v", unet(), diffusers.EulerDiscreteScheduler(prediction_type="v_prediction", **told))
    with pytest.raises(UserError, match="timestep_type = 'continuous'; expected 'discrete'"):
        from_diffusers(path)
    from_diffusers(folder(tmp_path / "epsilon", unet(), diffusers.EulerDiscreteScheduler(**told)))


@pytest.mark.parametrize("variant", ["fp16", "non_ema"])
def test_the_plain_weights_go_before_a_variant(tmp_path, variant):
    """Beside the averaged weights in full, others of half the precision or none of the average may lie."""
    path = folder(tmp_path, unet(), diffusers.DDPMScheduler())
    want = load_file(path / "unet" / "diffusion_pytorch_model.safetensors")
    unet(seed=1).save_pretrained(path / "unet", safe_serialization=True, variant=variant)
    got = from_diffusers(path).model.network.unet.state_dict()
    assert all(torch.equal(got[name], tensor) for name, tensor in want.items())


@pytest.mark.parametrize("scheduler", [diffusers.DDPMScheduler, diffusers.FlowMatchEulerDiscreteScheduler])
def test_a_table_of_times_holds_the_whole_schedule(tmp_path, scheduler):
    theirs = unet(time_embedding_type="learned", num_train_timesteps=100)
    with pytest.raises(UserError, match="num_train_timesteps = 100; expected at least 1000, the steps of the schedule"):
        from_diffusers(folder(tmp_path, theirs, scheduler()))


def test_the_model_is_called_like_its_folder(tmp_path, monkeypatch):
    """Where the folder is where one stands, too."""
    monkeypatch.chdir(folder(tmp_path / "edges", unet(), diffusers.DDPMScheduler()))
    made = from_diffusers(Path())
    assert made.config.name == "edges"
    assert "# edges" in made.card


@pytest.mark.parametrize("told", [0, 2])
def test_classes_are_the_networks(tmp_path, told):
    path = folder(tmp_path, unet(num_class_embeds=3), diffusers.DDPMScheduler())
    with pytest.raises(UserError, match=f"knows 3 classes; the image settings say classes = {told}"):
        from_diffusers(path, settings=[f"classes={told}"])


def test_a_square_is_a_slice_of_a_scan_too(tmp_path):
    """One number for a size is diffusers' word; an adapter may know sizes along each axis alone."""
    path = folder(tmp_path, unet(), diffusers.DDPMScheduler())
    assert from_diffusers(path, "volume").modality.shape == (1, 8, 8)
    assert from_diffusers(path).modality.shape == (1, 8, 8)


def test_a_level_beyond_the_schedule_is_refused(tmp_path):
    path = folder(tmp_path, unet(), diffusers.DDPMScheduler(beta_schedule="scaled_linear"))
    assert from_diffusers(path, sigma_max=5.0).model.sigma_max == 5.0
    with pytest.raises(UserError, match="sigma_max = 80: expected a level up to"):
        from_diffusers(path, sigma_max=80.0)


def test_a_size_must_be_known(tmp_path):
    path = folder(tmp_path, unet(sample_size=None), diffusers.DDPMScheduler())
    with pytest.raises(UserError, match="sample_size: the network's config has none"):
        from_diffusers(path)
    assert from_diffusers(path, settings=["size=[8, 12]"]).modality.shape == (1, 8, 12)
