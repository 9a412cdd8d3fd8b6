"""What each option of a config gains in a training step: time of the plain step over that with the option.

    python benchmarks/step_options.py [--method ect] [--options bf16 channels-last fused] [--pairs 9] [--device cuda]

The plain step is eager float32 with Adam's ``foreach`` update. Each option is timed against it in turn in one process, AB
BA; the answer is the median of the paired ratios, above 1 where the option is faster. ``compile`` takes minutes to build
on a CPU. That gradients stay those of eager float32 is a test: ``tests/training/test_speed_options.py``.
"""

from __future__ import annotations

import argparse
import json
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
        result[name] = paired(plain.step, faster.step, arguments.pairs, arguments.device)
        print(f"{name:14s} gain {result[name]}", flush=True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
