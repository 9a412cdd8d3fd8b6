"""What a training step costs over the network passes that it cannot do without, for every method.

    python benchmarks/step_cost.py [--methods ect sct ...] [--pairs 15] [--batch 32] [--device cuda]

The step is the trainer's: the method's loss, gradients, their norm, the optimiser, the averages and what the method
changes between steps; no log, no data. The passes are the same network's, on the same batch: forward without a gradient,
forward and backward, through frozen weights back to the input, and ``torch.func.jvp`` of the bare network. Step and passes
are timed in turn in one process, AB BA; the answer is the median of the paired ratios. On a CPU, one thread's CPU time,
which other work on the machine disturbs less than the clock does.

Goals: 1.10; and the steps of ``sct`` and ``meanflow`` over that of ``ect`` 1.8 on a CPU, 1.5 on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from pairs import pairs
from torch import Tensor

from cmmulti import registry
from cmmulti.conditioning import Condition
from cmmulti.config import RunConfig, resolve
from cmmulti.model import Model, evaluating
from cmmulti.parameterization import EDM
from cmmulti.training.build import build_method
from cmmulti.training.data import Batch
from cmmulti.training.module import TrainingModule

FORWARD, TEACHER, TRAIN, THROUGH, DERIVATIVE = "forward", "teacher", "train", "through", "derivative"
PASSES: Mapping[str, Mapping[str, int]] = {
    "edm": {TRAIN: 1},
    "ect": {FORWARD: 1, TRAIN: 1},
    "ict": {FORWARD: 1, TRAIN: 1},
    "ct": {FORWARD: 1, TRAIN: 1},
    "cd": {TEACHER: 2, FORWARD: 1, TRAIN: 1},  # two of Heun's
    "lcm": {TEACHER: 2, FORWARD: 1, TRAIN: 1},  # Euler's with and without the label
    "tcm": {TEACHER: 1, FORWARD: 1, TRAIN: 1},  # the first stage's
    "progressive": {TEACHER: 2, TRAIN: 1},
    "sct": {TRAIN: 1, DERIVATIVE: 1},
    "scd": {TEACHER: 1, TRAIN: 1, DERIVATIVE: 1},
    "meanflow": {TRAIN: 1, DERIVATIVE: 1},
    "ctm": {TEACHER: 2, FORWARD: 2, TRAIN: 2, THROUGH: 1},  # with one of Heun's steps
}
SETTINGS: Mapping[str, dict[str, Any]] = {"ctm": {"solver_steps": 1}, "cd": {"target_decay": 0.9}}
BETWEEN = (("sct", "ect"), ("meanflow", "ect"))


class Stepper:
    """The trainer's step of a method on one batch, and its network's bare passes."""

    def __init__(self, config: RunConfig, device: str) -> None:
        self.config = config
        method = build_method(config)
        kind = registry.load("networks", config.network.name)
        model = Model(kind(**config.network.settings), method.parameterization(0.5), method.role)
        teacher = None
        if method.needs_teacher:
            other = kind(**config.network.settings)
            teacher = Model(other, EDM(0.5), method.teacher_roles[0]).requires_grad_(False)
        self.module = TrainingModule(config, model, method, teacher).to(device).train()
        self.module.ema.to(torch.device(device))
        if teacher is not None:
            teacher.eval()
        self.optimizer = self.module.configure_optimizers()
        size = config.modality.settings["size"]
        shape = (config.data.batch_size, config.modality.settings["channels"], *size)
        generator = torch.Generator().manual_seed(0)
        x, label = 0.5 * torch.randn(shape, generator=generator), torch.arange(shape[0]) % 10
        self.batch = Batch(x.to(device), label.to(device), torch.arange(shape[0]))
        self.time = torch.linspace(0, 1, shape[0], device=device)
        two = method.role == "two-time"
        self.told = (Condition(label=self.batch.label), *([self.time / 2] if two else []))

    def loss(self) -> Tensor:
        """With gradients left in the parameters."""
        device = self.batch.x.device.type
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=self.config.trainer.precision == "bf16-mixed"):
            value = self.module.loss(self.batch).value
        value.backward()
        self.module.configure_gradient_clipping(self.optimizer)
        return value

    def step(self) -> None:
        self.module.optimizer_step(0, 0, self.optimizer, self.loss)

    def passes(self, counts: Mapping[str, int]) -> None:
        for kind, count in counts.items():
            for _ in range(count):
                getattr(self, kind)()

    def forward(self) -> None:
        with torch.no_grad():
            self._network(self.batch.x, self.time)

    def teacher(self) -> None:
        """Without dropout, as teachers are."""
        with evaluating(self.module.model):
            self.forward()

    def train(self) -> None:
        self.module.model.network.zero_grad(set_to_none=True)
        self._network(self.batch.x, self.time).square().mean().backward()

    def through(self) -> None:
        network = self.module.model.network.requires_grad_(False)
        self._network(self.batch.x.clone().requires_grad_(), self.time).square().mean().backward()
        network.requires_grad_(True)

    def derivative(self) -> None:
        x, t = self.batch.x, self.time
        with torch.no_grad():
            torch.func.jvp(self._network, (x, t), (torch.ones_like(x), torch.ones_like(t)))

    def _network(self, x: Tensor, time: Tensor) -> Tensor:
        out: Tensor = self.module.model.network(x, time, *self.told)
        return out


def config_of(
    name: str, arguments: argparse.Namespace, optimizer: Mapping[str, Any] | None = None, **trainer: Any
) -> RunConfig:
    """A picture model of ``arguments.size`` pixels under method ``name``."""
    method = registry.load("methods", name)()
    network = {
        "channels": arguments.channels,
        "blocks": 2,
        "attention": [len(arguments.channels) - 1],
        "classes": 10,
        "dropout": 0.1,
        "two_times": method.role == "two-time",
        "guided": method.tells_guidance,
    }
    return resolve(
        {
            "modality": {"name": "image", "size": [arguments.size] * 2, "channels": 3, "classes": 10},
            "data": {"name": "digits", "batch_size": arguments.batch},
            "network": network,
            "method": {"name": name, **SETTINGS.get(name, {})},
            "optimizer": dict(optimizer or {}),
            "trainer": {"max_steps": 1000, **trainer},
            "sigma_data": 0.5,
        }
    )


def seconds(function: Callable[[], object], device: str) -> float:
    """Of one call: the clock around a GPU's work, CPU time otherwise."""
    if device == "cuda":
        torch.cuda.synchronize()
        began = time.perf_counter()
        function()
        torch.cuda.synchronize()
        return time.perf_counter() - began
    began = time.process_time()
    function()
    return time.process_time() - began


def paired(one: Callable[[], object], other: Callable[[], object], pairs: int, device: str) -> dict[str, float]:
    """Median of ``one`` over ``other``, its quartiles, and the median seconds of ``one``."""
    for function in (one, other, one, other):
        function()
    ratios, first = [], []
    for pair in range(pairs):
        if pair % 2:
            b, a = seconds(other, device), seconds(one, device)
        else:
            a, b = seconds(one, device), seconds(other, device)
        ratios.append(a / b)
        first.append(a)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "ratio": round(middle, 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "ms": round(1e3 * statistics.median(first), 1),
    }


def add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=pairs, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(PASSES), choices=list(PASSES))
    add_size(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {"over passes": {}, "over ect": {}}
    for name in arguments.methods:
        stepper = Stepper(config_of(name, arguments), arguments.device)
        passes = partial(stepper.passes, PASSES[name])
        measured = paired(stepper.step, passes, arguments.pairs, arguments.device)
        result["over passes"][name] = measured
        print(f"{name:12s} step over passes {measured}", flush=True)
    for name, base in BETWEEN:
        if {name, base} <= set(arguments.methods):
            one, other = (Stepper(config_of(n, arguments), arguments.device) for n in (name, base))
            result["over ect"][name] = paired(one.step, other.step, arguments.pairs, arguments.device)
            print(f"{name:12s} step over {base}'s {result['over ect'][name]}", flush=True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
