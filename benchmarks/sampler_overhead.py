"""What one-step sampling costs beyond the network: the whole sampler call, noise included, against the bare forward pass.

    python benchmarks/sampler_overhead.py [--batch 16] [--pairs 30] [--threads 2]

Both run in this process, in turn, in the order AB BA, and the median of the paired ratios is the answer. Goal: <= 1.05.
The network is like the shipped head-mr model, but wider: ``UNet(2, 1, (64, 96, 128), patch=2)`` on slices of 120 x 96.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from pairs import pairs

from cmmulti.conditioning import NO_CONDITION
from cmmulti.model import Model
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import EDM
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep


def seconds(function: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=pairs, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    network = UNet(2, 1, (64, 96, 128), patch=2).to(device).eval()
    model = Model(network, EDM(), "consistency").eval()
    shape = (arguments.batch, 1, 120, 96)
    x, t = torch.randn(shape, device=device), torch.zeros(arguments.batch, device=device)
    seeds = range(arguments.batch)

    def bare() -> object:
        with torch.no_grad():
            return network(x, t, NO_CONDITION)

    def sampled() -> object:
        return Multistep().sample(model, shape, [80.0], SampleRandomness(seeds))

    for function in (bare, sampled, bare, sampled):
        function()
    ratios, forwards = [], []
    for pair in range(arguments.pairs):
        if pair % 2:
            whole, forward = seconds(sampled), seconds(bare)
        else:
            forward, whole = seconds(bare), seconds(sampled)
        ratios.append(whole / forward)
        forwards.append(forward)
    low, high = statistics.quantiles(ratios, n=4)[0], statistics.quantiles(ratios, n=4)[2]
    result = {
        "ratio": round(statistics.median(ratios), 4),
        "ratio_quartiles": [round(low, 4), round(high, 4)],
        "forward_seconds": round(statistics.median(forwards), 4),
        "goal": 1.05,
        "batch": arguments.batch,
        "pairs": arguments.pairs,
        "threads": arguments.threads,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
