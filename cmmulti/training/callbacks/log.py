"""``log.csv`` and TensorBoard: loss, loss per noise level, gradient norm, learning rate, speed, what the method tells."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.tensorboard import SummaryWriter

from cmmulti.config import RunConfig
from cmmulti.noise import finest
from cmmulti.training.callbacks.base import AfterStep, is_due
from cmmulti.training.callbacks.log_file import BINS, COLUMNS, EDGES, NONFINITE, RANGES, LogFile
from cmmulti.training.folder import LOG
from cmmulti.training.module import TrainingModule


class Log(AfterStep):
    """One row every ``log.every_steps``: means over the steps since the last row, over all processes.

    ``writer`` is TensorBoard's; ``latest`` the last row, for the progress bar.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.file = LogFile(folder / LOG, COLUMNS)
        self.writer: SummaryWriter | None = None
        self.latest: dict[str, float] = {}
        self._since = (0, 0.0)
        self._began = 0.0

    def begin(self, trainer: Trainer, module: TrainingModule) -> None:
        if trainer.is_global_zero:
            kept = self.file.begin(module.step)
            self._began = time.perf_counter() - (kept[-1].get("seconds", 0.0) if kept else 0.0)
            if module.config.log.tensorboard:
                self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=module.step + 1)
        self._since = (module.step, time.perf_counter())

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        stopped = module.stopping and any(module.blamed)  # who goes on counts anew
        if stopped or is_due(module, module.config.log.every_steps):
            self._log(trainer, module)

    def _log(self, trainer: Trainer, module: TrainingModule) -> None:
        now = time.perf_counter()
        steps, seconds = module.step - self._since[0], now - self._since[1]
        self._since = (module.step, now)
        sums, extras = binned(module.recent), means(module.extras, module.device)
        module.recent.clear()
        module.extras.clear()
        blamed, module.blamed = module.blamed, [0.0] * len(RANGES)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(extras.values)
            extras.values.div_(trainer.world_size)
        if not trainer.is_global_zero:
            return
        totals, counts = sums.cpu().tolist()
        batch = items_per_step(module.config)
        row: dict[str, float] = {
            "step": module.step,
            "items": round(module.step * batch),
            "loss": sum(totals) / sum(counts) if sum(counts) else float("nan"),
            **{
                name: total / count if count else float("nan")
                for name, total, count in zip(BINS, totals, counts, strict=True)
            },
            "grad_norm": float(module.grad_norm),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "items_per_second": steps * batch / max(seconds, 1e-9),
            "seconds": now - self._began,
            **dict(zip(extras.names, extras.values.tolist(), strict=True)),
            "nonfinite": round(sum(blamed), 6),
            **(dict(zip(NONFINITE, blamed, strict=True)) if any(blamed) else {}),
        }
        self.latest = row
        self._write(row)

    def on_fit_end(self, *args: object) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        module = cast(TrainingModule, pl_module)
        if any(module.blamed) and trainer.world_size == 1:
            self._log(trainer, module)  # the gradients that ended the run are otherwise in no row
        self._close()

    def _write(self, row: dict[str, float]) -> None:
        self.file.append(row)
        if self.writer is not None:
            for name, value in row.items():
                if name not in ("step", "items", "seconds") and value == value:
                    self.writer.add_scalar(f"train/{name}", value, int(row["step"]))

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def items_per_step(config: RunConfig) -> float:
    """Items of an optimiser step, on average: the modalities of a joint model take turns."""
    data = config.data
    return fmean([data.batch_size, *(part.data.beside(data).batch_size for part in config.joint.values())])


class Means(NamedTuple):
    """Names, and a float32 tensor of as many means on the device."""

    names: list[str]
    values: torch.Tensor


def means(extras: Mapping[str, Sequence[torch.Tensor | float]], device: torch.device) -> Means:
    """The mean of what was told under each name, batches weighing alike."""
    names = sorted(extras)
    columns = [
        torch.stack([torch.as_tensor(v, dtype=torch.float32, device=device).mean() for v in extras[name]]).mean()
        for name in names
    ]
    return Means(names, torch.stack(columns) if columns else torch.zeros(0, device=device))


def binned(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Sum and number of the finite losses per bin of the noise level: (2, bins), float64 where the device has it."""
    sigma = torch.cat([s for s, _ in batches]).float()
    loss = torch.cat([v for _, v in batches]).to(torch.float32)
    finite = loss.isfinite()
    where = torch.bucketize(sigma, torch.tensor(EDGES, device=sigma.device))
    sums = torch.zeros(2, len(BINS), dtype=finest(sigma.device), device=sigma.device)
    sums[0].index_add_(0, where, torch.where(finite, loss, 0).to(sums.dtype))
    sums[1].index_add_(0, where, finite.to(sums.dtype))
    return sums
