"""What makes a step faster leaves its gradients what they are in eager float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cmmulti.config import RunConfig, resolve
from cmmulti.errors import UserError
from cmmulti.methods.base import Loss
from cmmulti.model import Model
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import EDM
from cmmulti.training.build import build_method
from cmmulti.training.data import Batch
from cmmulti.training.module import TrainingModule
from cmmulti.training.strategy import strategy_of

Config = Callable[..., RunConfig]
NETWORK = {"channels": [16, 16], "blocks": 1, "attention": [1], "groups": 4, "classes": 3, "dropout": 0.2}


def module_of(**values: Any) -> TrainingModule:
    """ECT on pictures of 8 x 8, with weights that are away from their start at zero."""
    config = resolve(
        {
            "modality": {"name": "image", "size": [8, 8], "channels": 3, "classes": 3},
            "data": {"name": "digits", "batch_size": 8},
            "network": NETWORK,
            "method": {"name": "ect"},
            "sigma_data": 0.5,
            **values,
        }
    )
    torch.manual_seed(0)
    network = UNet(**config.network.settings)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return TrainingModule(config, Model(network, EDM(0.5), "consistency"), build_method(config), None).train()


def gradients(module: TrainingModule) -> Tensor:
    x = 0.5 * torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    batch = Batch(x, torch.arange(8) % 3, torch.arange(8))
    with torch.autocast("cpu", torch.bfloat16, enabled=module.config.trainer.precision == "bf16-mixed"):
        loss: Loss = module.loss(batch)
    loss.value.backward()
    return torch.cat([p.grad.flatten() for p in module.model.parameters() if p.grad is not None])


def relative(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())


def test_channels_last() -> None:
    ordered = module_of(trainer={"channels_last": True})
    weights = [p for p in ordered.model.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    assert relative(gradients(ordered), gradients(module_of())) < 1e-5


def test_bfloat16() -> None:
    """Eight bits of mantissa in two networks whose difference is weighed: percent, not more."""
    half = gradients(module_of(trainer={"precision": "bf16-mixed"}))
    assert half.dtype == torch.float32
    assert 1e-6 < relative(half, gradients(module_of())) < 0.05


def test_compiled() -> None:
    """What Dynamo captures and AOTAutograd differentiates, dropout masks of both passes included."""
    compiled = module_of()
    compiled.model.network.compile(backend="aot_eager")
    assert relative(gradients(compiled), gradients(module_of())) < 1e-5


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_implementations_of_the_optimiser_take_the_same_steps(name: str) -> None:
    def stepped(implementation: str) -> Tensor:
        module = module_of(optimizer={"name": name, "implementation": implementation, "weight_decay": 0.01})
        optimizer = module.configure_optimizers()
        for _ in range(3):
            gradients(module)
            optimizer.step()
            optimizer.zero_grad()
        return torch.cat([p.detach().flatten() for p in module.model.parameters()])

    loop = stepped("loop")
    for implementation in ("foreach", "fused"):
        torch.testing.assert_close(stepped(implementation), loop, rtol=1e-5, atol=1e-6)


def test_what_does_not_go_together_is_told(toy_config: Config) -> None:
    with pytest.raises(UserError, match=r"optimizer.implementation = 'fused': radam has none"):
        toy_config("optimizer.implementation=fused")
    with pytest.raises(UserError, match=r"trainer.strategy = 'fsdp' with trainer.channels_last"):
        strategy_of(toy_config("trainer.strategy=fsdp", "method={name: plain}", "trainer.channels_last=true"))
