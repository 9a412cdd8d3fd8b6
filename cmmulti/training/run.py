"""A whole run: from a resolved config to the last checkpoint."""

from __future__ import annotations

import contextlib
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.report.results import package_version
from cmmulti.threads import threads
from cmmulti.training import folder
from cmmulti.training.build import Parts, build, order_of, parameter_count, pipeline_config
from cmmulti.training.callbacks.average import Average
from cmmulti.training.callbacks.begin import Begin
from cmmulti.training.callbacks.checkpoints import Checkpoints
from cmmulti.training.callbacks.cost import Cost
from cmmulti.training.callbacks.guard import FiniteGuard
from cmmulti.training.callbacks.log import Log
from cmmulti.training.callbacks.previews import Previews
from cmmulti.training.callbacks.progress import Progress
from cmmulti.training.callbacks.snapshots import Snapshots
from cmmulti.training.callbacks.stop import Stop
from cmmulti.training.callbacks.validation import Validation
from cmmulti.training.data import RunData
from cmmulti.training.module import TrainingModule
from cmmulti.training.network_check import check_distance, unheard_classes
from cmmulti.training.quiet import first_process, quiet, say
from cmmulti.training.strategy import strategy_of


def train(config: RunConfig, out: Path, resume: bool = False, command: str = "") -> TrainingModule:
    """Train until ``trainer.max_steps`` and leave checkpoints, log and previews in ``out``.

    With ``resume`` the newest whole checkpoint in ``out`` is gone on from; on a CPU the result is bit-identical to a run
    that was never stopped.

    Args:
        config: resolved. out: folder of the run. command: how it was started, for the card.

    Raises:
        UserError: ``out`` holds another run, is being trained in or cannot be written; the data or the config does not
            fit; more gradients than ``trainer.nonfinite`` allows are not finite.
        SystemExit: the run was told to end (SIGTERM).
    """
    with threads(config.trainer.threads):
        return _trained(config, out, resume, command)


def _trained(config: RunConfig, out: Path, resume: bool, command: str) -> TrainingModule:
    strategy, asked = strategy_of(config), config
    if first_process():
        folder.check(out, resume)
    if resume:
        config = folder.same_run(out, config)
    parts = build(config)
    if told := unheard_classes(asked, parts.modality):
        say(told)
    if resume:
        folder.same_material(out, record_of(parts, command))
    config = parts.config
    begin = Begin(out if resume else None)
    data = RunData(parts.examples, order_of(parts), config.trainer.max_steps, config.data.workers, begin.step)
    module = TrainingModule(config, parts.model, parts.method, parts.teacher)
    for share in parts.shares:
        check_distance(parts.method, share.modality)
    if begin.step >= config.trainer.max_steps:
        say(f"{out}: all {begin.step} steps are done")
        return module
    if config.trainer.compile:
        # Compiled dropout would draw in its own way, and a pair's two graphs need not agree on it.
        module.model.network.compile(options={"fallback_random": True})
    with quiet(), torch.random.fork_rng(devices=[]), _told(module), contextlib.ExitStack() as held:
        trainer = _trainer(config, strategy, begin.step, _callbacks(parts, begin, data, out))
        if first_process():
            held.enter_context(folder.alone(out))
            folder.begin(out, config, record_of(parts, command))
        trainer.fit(module, datamodule=data)
        if module.stopping:
            raise SIGTERMException
    return module


@contextlib.contextmanager
def _told(module: TrainingModule) -> Iterator[None]:
    """Lightning's way of ending, in this package's words.

    Raises:
        UserError: the devices or options asked for are not there. KeyboardInterrupt: the user pressed Ctrl-C, which
            Lightning turns into an exit.
    """
    try:
        yield
    except MisconfigurationException as error:
        asked = module.config.trainer
        told = f"trainer.accelerator = {asked.accelerator!r}, trainer.devices = {asked.devices!r}"
        raise UserError(f"{told}: {str(error).rstrip('.!')}; expected what this machine has, or auto") from error
    except SIGTERMException:
        say(f"terminated at step {module.step}; --resume goes on there")
        sys.exit(128 + signal.SIGTERM)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def _trainer(config: RunConfig, strategy: Strategy | str, step: int, callbacks: Sequence[Callback]) -> Trainer:
    """Lightning's trainer for the steps from ``step`` on."""
    return Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.nodes,
        strategy=strategy,
        precision=config.trainer.precision,
        max_steps=config.trainer.max_steps - step,
        max_epochs=1,
        accumulate_grad_batches=config.trainer.accumulate,
        callbacks=list(callbacks),
        # What this package does itself, or not at all:
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


def _callbacks(parts: Parts, begin: Begin, data: RunData, out: Path) -> Sequence[Callback]:
    """In the order in which they are called: nothing is logged or saved before it was found finite."""
    log = Log(out)
    shown = {
        p.name: pipeline_config(parts.config, parts.method, p, parts.classes[p.name], parts.scale) for p in parts.shares
    }
    average = Average(shown[parts.shares[0].name])
    validation = Validation(out, parts, average, log)
    return [
        begin,
        Stop(),
        FiniteGuard(data.order, parts.examples.source.names),
        log,
        Cost(out),
        Snapshots(out),
        Checkpoints(out),
        validation,
        *(
            Previews(
                out,
                part.modality,
                shown[part.name],
                average,
                log,
                part.name if parts.config.joint else "",
                parts.examples.contexts,
            )
            for part in parts.shares
        ),
        Progress(log, validation),
    ]


def record_of(parts: Parts, command: str) -> folder.RunRecord:
    """Facts for the card."""
    return folder.RunRecord(
        command=command,
        device=device_name(parts.config.trainer.accelerator),
        classes=parts.classes[parts.shares[0].name],
        joint_classes={part.name: parts.classes[part.name] for part in parts.shares[1:]},
        examples=len(parts.examples),
        parameters=parameter_count(parts.model),
        version=package_version(),
        licence=parts.examples.source.licence,
        attribution=parts.examples.source.attribution,
        context=parts.scale,
        origins=parts.origins,
    )


def device_name(accelerator: str) -> str:
    """What Lightning takes for ``trainer.accelerator``, by a name that holds ``CPU`` for a processor alone."""
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return f"{platform.machine()} GPU (Metal)"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
