"""What averages of the weights cost beside a training step, and how well snapshots make other widths.

    python benchmarks/ema.py configs/image/digits-edm.yaml --set data.batch_size=128

The cost: the update of all averages of the config and of the widths 0.05 and 0.1, over loss + backward + optimiser step,
one after the other; CPU time of the process, which other work on the machine disturbs less than the clock does, or the
clock where there is a GPU. Goal: < 0.03. The misfit: what of a wanted profile so many snapshots of both widths cannot make.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pairs import pairs

from cmmulti.config import load_config
from cmmulti.training.build import build, order_of
from cmmulti.training.data import Batch, collate
from cmmulti.training.module import TrainingModule
from cmmulti.training.posthoc import mixture

WIDTHS = (0.05, 0.1)


def seconds(function: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        began = time.process_time()
        function()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def cost(path: Path, sets: list[str], pairs: int) -> dict[str, object]:
    """Medians over pairs of step and update."""
    fixed = [f"ema.sigma_rel={list(WIDTHS)}", "init=null", f"trainer.max_steps={pairs + 5}"]
    parts = build(load_config(path, [*sets, *fixed]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = TrainingModule(parts.config, parts.model, parts.method, parts.teacher).to(device)
    module.ema.to(device)
    order, optimizer = order_of(parts), module.configure_optimizers()
    steps, updates = [], []
    for number in range(pairs + 5):
        batch = collate(parts.examples.__getitems__(order.batch(number)))
        assert isinstance(batch, Batch)
        moved = batch._replace(x=batch.x.to(device), label=batch.label.to(device))

        def step(batch: Batch = moved) -> None:
            module.loss(batch).value.backward()
            optimizer.step()
            optimizer.zero_grad()

        steps.append(seconds(step, device))
        module.step += 1
        updates.append(seconds(lambda: module.ema.update(module.step), device))
    ratios = [update / whole for update, whole in zip(updates[5:], steps[5:], strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 4),
        "ratio_quartiles": [round(q, 4) for q in statistics.quantiles(ratios, n=4)[::2]],
        "goal": 0.03,
        "averages": list(module.ema.profiles),
        "step_ms": round(1e3 * statistics.median(steps[5:]), 2),
        "update_ms": round(1e3 * statistics.median(updates[5:]), 3),
        "parameters": sum(p.numel() for p in module.model.parameters()),
        "batch": parts.config.data.batch_size,
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
    }


def misfit(snapshots: int, width: float, steps: int = 10_000) -> float:
    """Of ``snapshots`` evenly spread over a run, the last at its end."""
    stored = [(steps * (i + 1) // snapshots, kept) for i in range(snapshots) for kept in WIDTHS]
    return round(mixture(stored, steps, width).misfit, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--pairs", type=pairs, default=30)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = {n: {w: misfit(n, w) for w in (0.03, 0.07, 0.15, 0.25)} for n in (4, 8, 16, 32)}
    print(json.dumps({"cost": cost(arguments.config, arguments.set, arguments.pairs), "misfit": table}, indent=2))


if __name__ == "__main__":
    main()
