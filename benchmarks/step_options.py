"""What each option of a config gains in a training step: time of the plain step over that with the option.

    python benchmarks/step_options.py [--method ect] [--options bf16 channels-last fused] [--pairs 9] [--device cuda]

The plain step is eager float32 with Adam's ``foreach`` update. Each option is timed against it in turn in one process, AB
BA; the answer is the median of the paired ratios, above 1 where the option is faster. ``compile`` takes minutes to build
on a CPU, which is told as ``building`` (seconds by the clock, of the first step). ``gradient`` is the relative difference
of the loss's gradient from that of the plain step, at the weights that the timed steps led to; also a test:
``tests/training/test_speed_options.py``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

import torch
from step_cost import Stepper, add_size, config_of, paired

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "bf16": {"precision": "bf16-mixed"},
    "channels-last": {"channels_last": True},
    "loop": {"optimizer": {"implementation": "loop"}},
    "fused": {"optimizer": {"implementation": "fused"}},
    "compile": {"compile": True},
}


def stepper(arguments: argparse.Namespace, option: Mapping[str, Any]) -> Stepper:
    """A step of Adam's with one option."""
    optimizer = {"name": "adam", **option.get("optimizer", {})}
    trainer = {k: v for k, v in option.items() if k != "optimizer"}
    made = Stepper(config_of(arguments.method, arguments, optimizer, **trainer), arguments.device)
    if trainer.get("compile"):
        made.module.model.network.compile(options={"fallback_random": True})
    return made


def difference(made: Stepper, plain: Stepper) -> float:
    """Relative, of the gradients at the plain step's weights."""
    made.module.model.load_state_dict(plain.module.model.state_dict())
    gradients = []
    for stepper in (made, plain):
        stepper.module.step = 0  # draws are keyed by it
        stepper.loss()
        gradients.append(torch.cat([p.grad.flatten() for p in stepper.module.model.parameters() if p.grad is not None]))
    return float((gradients[0] - gradients[1]).norm() / gradients[1].norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="ect")
    parser.add_argument("--options", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    add_size(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    plain, result = stepper(arguments, {}), {}
    for name in arguments.options:
        faster = stepper(arguments, OPTIONS[name])
        began = time.perf_counter()
        faster.step()
        building = round(time.perf_counter() - began, 1)
        result[name] = {"building": building} | paired(plain.step, faster.step, arguments.pairs, arguments.device)
        result[name]["gradient"] = difference(faster, plain)
        print(f"{name:14s} gain {result[name]}", flush=True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
