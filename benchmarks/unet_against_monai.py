"""Our U-Net against MONAI's DiffusionModelUNet on head slices: held-out EDM loss by training time, and time per step.

Both networks have about equally many parameters, see the same slices, noise and levels in the same order, and are moved by
the same optimiser. They take turns on the machine, half a minute each; only their own steps are timed, on the CPU in
seconds of one thread's processor time, so that other work does not count. The held-out loss is EDM's, on 200 slices with
noise and levels fixed once for all.

    python benchmarks/unet_against_monai.py --data ROOT --minutes 20 --seeds 0 1 2 --out unet.json

MONAI's network trains for ``--minutes``, ours for ``--ours-minutes``. The answer is the time at which ours reaches the
final loss of MONAI's: the median over the seeds. ``--minutes 0`` measures the time per step alone, diffusers' UNet2DModel
among them where diffusers is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cmmulti import registry
from cmmulti.conditioning import NO_CONDITION
from cmmulti.methods.base import Progress
from cmmulti.methods.edm import EDM
from cmmulti.modality import DataSource
from cmmulti.model import Model, evaluating
from cmmulti.nn.monai import MonaiUNet
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import EDM as Preconditioning
from cmmulti.randomness import TrainingRandomness, key

CHANNELS, BLOCKS, ATTENTION = (32, 64, 96), 2, (2,)
SIGMA_DATA, RATE, TURN = 0.5, 5e-4, 30.0
HELD_OUT, EVERY = 200, 60.0


@dataclass
class Contestant:
    """A network in training: its own clock, and its held-out loss by that clock."""

    name: str
    model: Model
    optimizer: torch.optim.Optimizer
    batches: Iterator[Tensor]
    seed: int
    seconds: float = 0.0
    steps: int = 0
    losses: list[tuple[float, float]] = field(default_factory=list)

    def step(self) -> None:
        x0 = next(self.batches)
        randomness = TrainingRandomness(self.seed, self.steps)
        began = now(x0.device)
        self.optimizer.zero_grad(set_to_none=True)
        loss = EDM().loss(self.model, x0, NO_CONDITION, Progress(self.steps, 0, 0.0), randomness)
        loss.value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.seconds += now(x0.device) - began
        self.steps += 1

    def train(self, until: float, judge: Callable[[Model], float]) -> None:
        """Up to ``until`` seconds of the own clock, the held-out loss once a minute and at the end."""
        while self.seconds < until:
            self.step()
            if self.seconds >= EVERY * (len(self.losses) + 1):
                self.losses.append((self.seconds, judge(self.model)))


def now(device: torch.device) -> float:
    """Seconds of the device: of the processor's own time on the CPU, so that other work there does not count."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def our_network(parameters: int) -> UNet:
    """Our U-Net on patches of 2, as wide as makes it nearest to ``parameters``."""
    widths = [(c, c + c // 2, 2 * c) for c in range(32, 97, 8)]
    return min(
        (UNet(channels=w, blocks=1, attention=(2,), patch=2) for w in widths),
        key=lambda network: abs(size(network) - parameters),
    )


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def contestant(name: str, network: nn.Module, slices: Tensor, batch: int, seed: int) -> Contestant:
    model = Model(network, Preconditioning(SIGMA_DATA), "teacher")
    model.to(slices.device)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    return Contestant(name, model.train(), optimizer, shuffled(slices, batch, seed), seed)


def shuffled(slices: Tensor, batch: int, seed: int) -> Iterator[Tensor]:
    """Batches in an order that depends on the seed alone."""
    epoch = 0
    while True:
        order = torch.randperm(len(slices), generator=torch.Generator().manual_seed(key(seed, epoch)))
        order = order.to(slices.device)
        for first in range(0, len(order) - batch + 1, batch):
            yield slices[order[first : first + batch]]
        epoch += 1


def judge_on(slices: Tensor) -> Callable[[Model], float]:
    """EDM's loss on ``slices`` with noise and levels of a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    sigma = (-1.2 + 1.2 * torch.randn(len(slices), generator=generator)).exp().to(slices.device)
    noise = torch.randn(slices.shape, generator=generator).to(slices.device)

    def judge(model: Model) -> float:
        total = 0.0
        with evaluating(model), torch.no_grad():
            for first in range(0, len(slices), 20):
                part = slice(first, first + 20)
                noisy = slices[part] + sigma[part].view(-1, 1, 1, 1) * noise[part]
                error = (model.denoise(noisy, sigma[part]) - slices[part]).square().flatten(1).mean(1)
                total += float((error / model.parameterization.coefficients(sigma[part]).c_out.square()).sum())
        return total / len(slices)

    return judge


def head_slices(root: Path) -> tuple[Tensor, Tensor]:
    """Training slices and 200 test slices, model space, without augmentation."""
    adapter = registry.load("modalities", "volume")
    modality = adapter(adapter.Settings())
    source = DataSource(name="ixi-t1-2mm", root=root)
    parts = []
    for split, most in (("train", 10**9), ("test", HELD_OUT)):
        data = modality.dataset(source, split)
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
        parts.append(torch.stack([data.tensor(i, None) for i in order[:most]]))
    return parts[0], parts[1]


def race(train: Tensor, held_out: Tensor, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Both networks in turns; what each had reached, and when ours passed MONAI's last loss."""
    torch.manual_seed(seed)
    theirs = contestant("monai", MonaiUNet(channels=CHANNELS, blocks=BLOCKS, attention=ATTENTION), train, args.batch, seed)
    torch.manual_seed(seed)
    ours = contestant("ours", our_network(size(theirs.model)), train, args.batch, seed)
    judge = judge_on(held_out)
    limits = {"monai": 60 * args.minutes, "ours": 60 * args.ours_minutes}
    while any(c.seconds < limits[c.name] for c in (theirs, ours)):
        for c in (theirs, ours):
            c.train(min(c.seconds + TURN, limits[c.name]), judge)
        print(f"seed {seed}: " + ", ".join(f"{c.name} {c.seconds / 60:.1f} min {c.steps} steps" for c in (theirs, ours)))
    for c in (theirs, ours):
        c.losses.append((c.seconds, judge(c.model)))
    goal = theirs.losses[-1][1]
    reached = next((seconds for seconds, loss in ours.losses if loss <= goal), None)
    print(f"seed {seed}: MONAI's final loss {goal:.4f}, ours there after {reached and round(reached / 60, 2)} minutes")
    return {
        "seed": seed,
        "goal": goal,
        "reached_minutes": None if reached is None else reached / 60,
        **{c.name: {"parameters": size(c.model), "steps": c.steps, "losses": c.losses} for c in (theirs, ours)},
    }


def step_times(batch: int, repeats: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Median seconds of forward, backward and Adam at one architecture, the networks in turns."""
    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {
        "ours": UNet(channels=CHANNELS, blocks=BLOCKS, attention=ATTENTION),
        "monai": MonaiUNet(channels=CHANNELS, blocks=BLOCKS, attention=ATTENTION),
    }
    if (other := diffusers_network()) is not None:
        networks["diffusers"] = other
    x, sigma = torch.randn(batch, 1, 120, 96, device=device), torch.ones(batch, device=device)
    for network in networks.values():
        network.to(device)
    optimizers = {name: torch.optim.Adam(n.parameters(), RATE) for name, n in networks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(repeats + 1):
        for name, network in networks.items():
            began = now(device)
            optimizers[name].zero_grad(set_to_none=True)
            network(x, sigma).square().mean().backward()
            optimizers[name].step()
            seconds[name].append(now(device) - began)
    return {n: {"parameters": size(networks[n]), "seconds": statistics.median(s[1:])} for n, s in seconds.items()}


class _Diffusers(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.network(x, time).sample


def diffusers_network() -> nn.Module | None:
    """UNet2DModel of the same widths, blocks and attention; None where diffusers is not installed."""
    try:
        from diffusers import UNet2DModel
    except ImportError:
        print("diffusers is not installed: left out")
        return None
    kinds = ["AttnDownBlock2D" if level in ATTENTION else "DownBlock2D" for level in range(len(CHANNELS))]
    network = UNet2DModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=CHANNELS,
        layers_per_block=BLOCKS,
        down_block_types=tuple(kinds),
        up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(kinds)),
        norm_num_groups=16,
        attention_head_dim=32,
    )
    return _Diffusers(cast(nn.Module, network))  # its mixins hide from the type checker that it is one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="data root with ixi-t1-2mm; not needed with --minutes 0")
    parser.add_argument("--minutes", type=float, default=20.0, help="MONAI's training time per seed")
    parser.add_argument("--ours-minutes", type=float, help="ours (default: half of it)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=10, help="steps timed per network at equal architecture")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    if args.ours_minutes is None:
        args.ours_minutes = args.minutes / 2
    if args.device.type == "cpu":
        torch.set_num_threads(1)  # the processor's time is then the time a step takes on an idle machine
    figures: dict[str, Any] = {
        "step": step_times(args.batch, args.repeats, args.device),
        "threads": torch.get_num_threads(),
        "device": str(args.device),
    }
    for name, row in figures["step"].items():
        cost = f"{1000 * row['seconds']:.0f} ms a step of {args.batch}"
        print(f"{name}: {cost} at equal architecture, {row['parameters']} parameters")
    if args.minutes > 0:
        if args.data is None:
            parser.error("--data: expected the data root with ixi-t1-2mm")
        train, held_out = (slices.to(args.device) for slices in head_slices(args.data))
        figures["races"] = []
        for seed in args.seeds:
            figures["races"].append(race(train, held_out, args, seed))
            times = [r["reached_minutes"] for r in figures["races"]]
            figures["median_minutes"] = statistics.median([float("inf") if t is None else t for t in times])
            write(figures, args.out)
        print(f"median time to MONAI's final loss: {figures['median_minutes']:.2f} minutes (MONAI: {args.minutes:g})")
    write(figures, args.out)


def write(figures: dict[str, Any], out: Path | None) -> None:
    """What is known so far; a race never won is null."""
    if out is not None:
        out.write_text(json.dumps(figures, indent=2).replace("Infinity", "null") + "\n")


if __name__ == "__main__":
    main()
