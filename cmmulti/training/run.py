"""A whole run: from a resolved config to the last checkpoint."""

from __future__ import annotations

import logging
import platform
import shlex
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities.rank_zero import rank_zero_only


from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.training import checkpoint, folder
from cmmulti.training.build import Parts, build, parameter_count, pipeline_config
from cmmulti.training.callbacks.checkpoints import Checkpoints
from cmmulti.training.callbacks.guard import FiniteGuard
from cmmulti.training.callbacks.log import Log
from cmmulti.training.callbacks.previews import Previews
from cmmulti.training.callbacks.progress import Progress
from cmmulti.training.data import RunData, collate
from cmmulti.training.module import TrainingModule
from cmmulti.training.order import Order


def train(config: RunConfig, out: Path, resume: bool = False) -> TrainingModule:
    """Train until ``trainer.max_steps`` and leave checkpoints, log and previews in ``out``.

    With ``resume`` the newest whole checkpoint in ``out`` is gone on from; on a CPU the result is bit-identical to a run
    that was never stopped.

    Raises:
        UserError: ``out`` holds another run or cannot be written; the data or the config does not fit; the loss is no
            longer finite.
    """
    first = rank_zero_only.rank in (0, None)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    if first:
        folder.prepare(out, resume)
    if resume:
        config = folder.same_run(out, config)
    parts = build(config)
    config = parts.config
    module = TrainingModule(config, parts.model, parts.method, parts.teacher)
    order = order_of(parts)
    data = RunData(parts.examples, order, config.trainer.max_steps, config.data.workers)
    begin = _Begin(out if resume else None)
    begin.find()
    data.start = begin.step
    if first:
        folder.write(out, config, record_of(parts))
    if begin.step >= config.trainer.max_steps:
        say(f"{out}: all {begin.step} steps are done")
        return module
    log = Log(out)
    settings = pipeline_config(config, parts.method, parts.classes)
    callbacks = [
        begin,
        FiniteGuard(order, parts.examples.source.names),
        log,
        Checkpoints(out),
        Previews(out, parts.modality, settings, log),
        Progress(log),
    ]
    if config.trainer.compile:
        module.model.network.compile()
    with _quiet():
        trainer = make_trainer(config, callbacks, config.trainer.max_steps - begin.step)
        trainer.fit(module, datamodule=data)
    return module


def make_trainer(config: RunConfig, callbacks: list[Any], steps: int) -> Trainer:
    """Lightning's trainer, with nothing on that this package does itself."""
    settings = config.trainer
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=strategy_of(config),
        precision=settings.precision,
        max_steps=steps,
        max_epochs=1,
        accumulate_grad_batches=settings.accumulate,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


def strategy_of(config: RunConfig) -> Strategy | str:
    """The strategy by name, refused where it does not fit."""
    settings = config.trainer
    if settings.strategy == "ddp" or (settings.strategy == "auto" and config.processes > 1):
        return DDPStrategy(gradient_as_bucket_view=True)
    if settings.strategy == "fsdp":
        raise UserError("trainer.strategy = 'fsdp': not offered for this method; expected 'auto' or 'ddp'")
    return "auto"


def dry_run(config: RunConfig) -> str:
    """Make everything, take the gradient of one batch, write nothing, and tell what the run would be."""
    parts = build(config)
    config = parts.config
    module = TrainingModule(config, parts.model, parts.method, parts.teacher)
    order = order_of(parts)
    batch = collate(parts.examples.__getitems__(order.batch(0)))
    if isinstance(batch, tuple) and hasattr(batch, "reason"):
        raise UserError(batch.reason)
    began = time.perf_counter()
    loss = module.loss(batch)
    loss.value.backward()
    seconds = (time.perf_counter() - began) * config.trainer.accumulate
    return (
        f"{len(parts.examples)} examples of shape {'x'.join(map(str, parts.modality.shape))}, "
        f"{len(parts.classes)} classes, sigma_data {config.sigma_data:g}; "
        f"{parameter_count(module.model)} parameters; first loss {float(loss.value.detach()):.4g}, "
        f"first step {seconds:.2f} s on the CPU; {config.trainer.max_steps} steps"
    )


def order_of(parts: Parts) -> Order:
    """The order of the run's examples."""
    config = parts.config
    return Order(
        len(parts.examples), config.trainer.seed, config.data.batch_size, config.trainer.accumulate, config.processes
    )


def record_of(parts: Parts) -> folder.RunRecord:
    """Facts for the card."""
    cuda = torch.cuda.is_available() and parts.config.trainer.accelerator != "cpu"
    device = torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    command = shlex.join(["cmmulti", *sys.argv[1:]]) if Path(sys.argv[0]).name.startswith(("cmmulti", "__main__")) else ""
    return folder.RunRecord(
        command=command,
        device=device,
        classes=parts.classes,
        examples=len(parts.examples),
        parameters=parameter_count(parts.model),
        version=version("cmmulti"),
    )


def say(text: str) -> None:
    """A line on standard error, from the first process alone."""
    if rank_zero_only.rank in (0, None):
        print(text, file=sys.stderr, flush=True)


class _Begin(pytorch_lightning.Callback):
    """Restores a run's state once its optimiser exists."""

    def __init__(self, folder_to_resume: Path | None) -> None:
        self.folder = folder_to_resume
        self.step = 0
        self._found: tuple[Path, dict[str, Any]] | None = None

    def find(self) -> None:
        """Read the newest checkpoint, and say what was found."""
        if self.folder is None:
            return
        self._found = checkpoint.newest(self.folder, say)
        if self._found is None:
            say(f"{self.folder}: no checkpoint; starting at step 0")
            return
        self.step = self._found[1]["step"]
        say(f"{self._found[0]}: resuming at step {self.step}")

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self._found is not None:
            path, state = self._found
            checkpoint.restore(pl_module, trainer.optimizers[0], state, path)
            self._found = None


class _quiet:
    """Lightning's hints about things this package decides itself stay unsaid."""

    NAMES = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "pytorch_lightning.utilities.rank_zero")

    def __enter__(self) -> None:
        self._levels = {name: logging.getLogger(name).level for name in self.NAMES}
        for name in self.NAMES:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        for module in ("pytorch_lightning", "lightning_fabric"):
            warnings.filterwarnings("ignore", module=module)
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")

    def __exit__(self, *error: Any) -> None:
        self._warnings.__exit__(*error)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
