"""Two processes: every method's gradient is the mean over both, also where it calls the network outside of autograd.

Under DistributedDataParallel, and under FSDP where the method says that it can be sharded.
"""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from cmmulti.conditioning import Condition
from cmmulti.methods.base import Method
from cmmulti.model import Model
from cmmulti.nn.unet import UNet
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.gaussian import Gaussian
from cmmulti.testing.methods import BUDGET, SHAPE, at, teacher_of
from cmmulti.testing.tiny import methods
from cmmulti.training.sharding import gathered, shard_training


class Step(nn.Module):
    """A training step as a module, which is what DistributedDataParallel wraps."""

    def __init__(self, method: Method, model: Model) -> None:
        super().__init__()
        self.method, self.model = method, model

    def forward(self, rank: int) -> Tensor:
        x0 = Gaussian.random(SHAPE).sample(4, torch.Generator().manual_seed(rank)).float()
        condition = Condition(label=torch.tensor([0, 1, 2, -1]))
        return self.method.loss(self.model, x0, condition, at(3), TrainingRandomness(0, 3, rank)).value


def step_of(method: Method) -> Step:
    torch.manual_seed(0)
    network = UNet(2, 1, (8,), classes=3, two_times=method.role == "two-time", guided=method.tells_guidance)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    model = Model(network, method.parameterization(0.5), method.role)
    method.setup(model, teacher_of(method), BUDGET)
    return Step(method, model)


def gradients(step: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}


def compare(rank: int) -> None:
    """In one of two processes: DDP's and FSDP's gradients against the mean of what both ranks get alone."""
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for name, method in methods().items():
        step = step_of(method)
        alone = []
        for other in range(2):
            single = copy.deepcopy(step)
            single(other).backward()
            alone.append(gradients(single))
        assert any(not torch.allclose(alone[0][key], alone[1][key]) for key in alone[0]), name
        sharded = copy.deepcopy(step)
        check(f"ddp {name}", step, nn.parallel.DistributedDataParallel(step), rank, alone)
        if method.shards:
            shard_training(sharded.model.network, sharded.method, mesh)
            check(f"fsdp {name}", sharded, sharded, rank, alone)
    torch.distributed.destroy_process_group()


def check(name: str, step: Step, called: nn.Module, rank: int, alone: list[dict[str, Tensor]]) -> None:
    for _ in range(2):  # the second pass fails where the first left a gradient unreduced
        step.zero_grad()
        called(rank).backward()
    got = {key: gathered(value) for key, value in gradients(step).items()}
    assert got.keys() == alone[0].keys() == alone[1].keys(), name
    for key, value in got.items():
        torch.testing.assert_close(value, (alone[0][key] + alone[1][key]) / 2, rtol=1e-4, atol=1e-5, msg=f"{name} {key}")


def test_gradients_are_the_mean_over_processes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    told = [process.communicate(timeout=240)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], told


if __name__ == "__main__":
    torch.set_num_threads(1)
    compare(int(sys.argv[1]))
