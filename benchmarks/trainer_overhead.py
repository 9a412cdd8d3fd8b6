"""What the trainer costs beside the bare loop: step time through Lightning over loss + backward + clip + optimiser step.

Both read the same batches of the same config; the bare loop has no averages, no log, no checks, no checkpoints. CPU time of
the process, which other work on the machine disturbs less than the clock does.

    python benchmarks/trainer_overhead.py configs/image/digits-edm.yaml --set data.batch_size=128
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from pytorch_lightning import Callback

from cmmulti.config import RunConfig, load_config
from cmmulti.training import run
from cmmulti.training.build import build, order_of
from cmmulti.training.data import Batch, collate
from cmmulti.training.module import TrainingModule


def bare(config: RunConfig) -> list[float]:
    """CPU seconds of each step of the plain loop."""
    parts = build(config)
    module = TrainingModule(parts.config, parts.model, parts.method, parts.teacher)
    order, optimizer = order_of(parts), module.configure_optimizers()
    seconds = []
    for step in range(config.trainer.max_steps):
        began = time.process_time()
        batch = collate(parts.examples.__getitems__(order.batch(step)))
        assert isinstance(batch, Batch)
        module.loss(batch).value.backward()
        if config.trainer.clip:
            torch.nn.utils.clip_grad_norm_(module.model.parameters(), config.trainer.clip, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        module.step += 1
        seconds.append(time.process_time() - began)
    return seconds


class Clock(Callback):
    """CPU seconds between the ends of steps."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_train_batch_end(self, *args: object) -> None:
        self.stamps.append(time.process_time())


def through_lightning(config: RunConfig) -> list[float]:
    """CPU seconds of each step of a whole run but its first, the average and log updates included."""
    clock = Clock()
    original = run._callbacks
    run._callbacks = lambda *args: [*original(*args), clock]
    try:
        with tempfile.TemporaryDirectory() as folder:
            run.train(config, Path(folder) / "run")
    finally:
        run._callbacks = original
    return [b - a for a, b in zip(clock.stamps, clock.stamps[1:], strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    fixed = [f"trainer.max_steps={args.steps}", f"checkpoint.every_steps={args.steps}", "preview.every_steps=0"]
    fixed += ["trainer.threads=1", "log.tensorboard=false", "init=null"]
    config = load_config(args.config, [*args.set, *fixed])
    ratios = []
    for _ in range(args.pairs):
        plain, whole = statistics.median(bare(config)), statistics.median(through_lightning(config))
        ratios.append(whole / plain)
        print(f"bare {1e3 * plain:.1f} ms, trainer {1e3 * whole:.1f} ms, ratio {whole / plain:.3f}", file=sys.stderr)
    print(f"ratio {statistics.median(ratios):.3f} (median of {args.pairs} pairs of {args.steps} steps)")


if __name__ == "__main__":
    main()
