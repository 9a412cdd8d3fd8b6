"""``log.csv`` and TensorBoard: loss, loss per noise level, gradient norm, learning rate, speed."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from pytorch_lightning import Trainer
from torch.utils.tensorboard import SummaryWriter

from cmmulti.errors import UserError
from cmmulti.training.callbacks.base import AfterStep, is_due
from cmmulti.training.callbacks.log_file import BINS, COLUMNS, EDGES, line, told, truncate
from cmmulti.training.module import TrainingModule


class Log(AfterStep):
    """One row every ``log.every_steps``: means over the steps since the last row, over all processes.

    ``writer`` is TensorBoard's; ``latest`` the last row, for the progress bar.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.writer: SummaryWriter | None = None
        self.latest: dict[str, float] = {}
        self._since = (0, 0.0)
        self._began = 0.0

    def begin(self, trainer: Trainer, module: TrainingModule) -> None:
        if trainer.is_global_zero:
            self._began = time.perf_counter() - truncate(self.folder / "log.csv", module.step)
            if module.config.log.tensorboard:
                self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=module.step + 1)
        self._since = (module.step, time.perf_counter())

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        if not is_due(module, module.config.log.every_steps):
            return
        now = time.perf_counter()
        steps, seconds = module.step - self._since[0], now - self._since[1]
        self._since = (module.step, now)
        sums = binned(module.recent)
        module.recent.clear()
        if trainer.world_size > 1:
            torch.distributed.all_reduce(sums)
        if not trainer.is_global_zero:
            return
        totals, counts = sums.cpu().tolist()
        batch = module.config.data.batch_size
        row: dict[str, float] = {
            "step": module.step,
            "images": module.step * batch,
            "loss": sum(totals) / max(sum(counts), 1),
            **{
                name: total / count if count else float("nan")
                for name, total, count in zip(BINS, totals, counts, strict=True)
            },
            "grad_norm": float(module.grad_norm),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "images_per_second": steps * batch / max(seconds, 1e-9),
            "seconds": now - self._began,
        }
        self.latest = row
        self._write(row)

    def on_fit_end(self, *args: object) -> None:
        self._close()

    def on_exception(self, *args: object) -> None:
        self._close()

    def _write(self, row: dict[str, float]) -> None:
        try:
            with open(self.folder / "log.csv", "a", encoding="utf-8", newline="") as file:
                file.write(line([told(row[c]) for c in COLUMNS]))
        except OSError as error:
            raise UserError(f"{self.folder / 'log.csv'}: cannot be written ({error.strerror or error})") from error
        if self.writer is not None:
            for name in COLUMNS[2:-1]:
                if row[name] == row[name]:
                    self.writer.add_scalar(f"train/{name}", row[name], int(row["step"]))

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def binned(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Sum of losses and number of samples per bin of the noise level: (2, bins), float64."""
    sigma = torch.cat([s for s, _ in batches]).float()
    loss = torch.cat([v for _, v in batches]).to(torch.float32)
    where = torch.bucketize(sigma, torch.tensor(EDGES, device=sigma.device))
    sums = torch.zeros(
        2, len(BINS), dtype=torch.float32 if sigma.device.type == "mps" else torch.float64, device=sigma.device
    )
    sums[0].index_add_(0, where, loss.to(sums.dtype))
    sums[1].index_add_(0, where, torch.ones_like(loss, dtype=sums.dtype))
    return sums
