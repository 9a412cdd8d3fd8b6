"""Other people's networks as networks of ours: diffusers' U-Net, and any network told in another form."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cmmulti import registry
from cmmulti.errors import UserError
from cmmulti.methods.ect import ECT
from cmmulti.methods.meanflow import MeanFlow
from cmmulti.methods.scm import SCT, SCTSettings
from cmmulti.model import Model
from cmmulti.nn.diffusers import DiffusersUNet
from cmmulti.nn.translated import Translated
from cmmulti.parameterization import DDPM, EDM, Consistency, Flow, TrigFlow
from cmmulti.testing.gaussian import Gaussian, GaussianNetwork
from cmmulti.testing.networks import NetworkCase, check_network
from cmmulti.training.network_check import check_network as check_network_of_run

VARIANCE = 0.2
PRIOR = Gaussian.isotropic((1, 4, 4), VARIANCE, 0.3)
SHAPE = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}
BARS = tuple(torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).tolist())
FORMS = {
    "edm": EDM(0.4),
    "consistency": Consistency(0.4),
    "trigflow": TrigFlow(0.4),
    "flow": Flow(),
    "epsilon": DDPM(BARS),
    "v": DDPM(BARS, "v"),
}


@pytest.mark.parametrize("target", ["edm", "consistency", "trigflow", "flow"])
@pytest.mark.parametrize("source", FORMS)
def test_a_translated_network_is_the_same_denoiser(source, target):
    """Any form as any form in which a method trains, and what methods ask of it: a derivative in its native time."""
    network = translated(GaussianNetwork(PRIOR, FORMS[source], "teacher"), source, target)
    sigmas = torch.tensor([0.0021, 0.02, 0.5, 4.0, 79.0], dtype=torch.float64)
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64) * (VARIANCE + sigmas**2).sqrt().view(-1, 1, 1, 1)
    # Below its first level a DDPM's time stands still, and so does its network, which here knows the level by it.
    if isinstance(FORMS[source], DDPM):
        sigmas = sigmas.clamp_min(float(FORMS[source].to_sigma(torch.zeros(1, dtype=torch.float64))))
    got = Model(network, FORMS[target]).denoise(x, sigmas)
    torch.testing.assert_close(got, PRIOR.denoised(x, sigmas), rtol=1e-6, atol=1e-6)


def translated(network, source, target):
    """A translation around a network that exists."""
    made = Translated.__new__(Translated)
    nn.Module.__init__(made)
    made.network, made.source, made.target = network, FORMS[source], FORMS[target]
    return made


CASES = {
    "diffusers": NetworkCase(DiffusersUNet(1, SHAPE, classes=3), (7, 9), classes=3, tolerance=5e-3),
    "translated": NetworkCase(
        Translated(
            {"name": "unet", "settings": {"dims": 2, "in_channels": 1, "channels": [8, 12], "classes": 3}},
            {"name": "flow", "settings": {}},
            {"name": "trigflow", "settings": {}},
            classes=3,
        ),
        (7, 9),
        classes=3,
    ),
}


@pytest.mark.parametrize(**check_network.cases(CASES, {"compiles": CASES.keys()}))
def test_contract(check, piece):
    check(piece)


def test_both_are_registered():
    assert registry.load("networks", "diffusers") is DiffusersUNet
    assert registry.load("networks", "translated") is Translated


@pytest.mark.parametrize("method", [SCT(SCTSettings(form="edm")), MeanFlow()])
def test_a_table_of_times_has_no_derivative(method):
    """Its network would be followed along the tensor alone, and the tangent be wrong without a word."""
    modality = SimpleNamespace(shape=(1, 8, 8), name="toy")
    network = DiffusersUNet(1, {**SHAPE, "time_embedding_type": "learned", "num_train_timesteps": 1000}, whole_times=True)
    model = Model(network, EDM(0.5), "consistency")
    check_network_of_run(model, modality)
    with pytest.raises(UserError, match="knows whole times alone and has no derivative"):
        check_network_of_run(model, modality, differentiates=method.differentiates)
    assert not ECT().differentiates
