"""From a run to a pipeline folder: averaged weights, settings, and a card written from what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmmulti.config import RunConfig, read_yaml, resolve
from cmmulti.errors import UserError, unknown_name
from cmmulti.methods.base import Budget, Method
from cmmulti.model import Model
from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.config import LowerNetwork
from cmmulti.ranged import joined
from cmmulti.training import checkpoint, snapshots
from cmmulti.training.build import build_method, load_pipeline, pipeline_config
from cmmulti.training.callbacks.log_file import read
from cmmulti.training.card import model_card
from cmmulti.training.folder import CONFIG, LOG, RECORD, RunRecord, read_record
from cmmulti.training.module import TrainingModule
from cmmulti.training.quiet import say
from cmmulti.training.sharding import whole
from cmmulti.training.sources import Share, shares


@torch.no_grad()
def fill(model: Model, weights: Sequence[Tensor]) -> None:
    """Put ``weights``, in the order of its parameters, into ``model``."""
    for parameter, average in zip(model.network.parameters(), weights, strict=True):
        parameter.copy_(average)


@torch.no_grad()
def load_average(module: TrainingModule, model: Model, profile: str) -> None:
    """Fill ``model`` with an average of the run's student; buffers are the student's. All processes call this together."""
    fill(model, whole(module.ema.weights(profile)))
    for buffer, current in zip(model.network.buffers(), module.model.network.buffers(), strict=True):
        buffer.copy_(current)


def export(
    run: Path,
    out: Path,
    profile: str | None = None,
    half: bool = False,
    sigma_rel: float | None = None,
    modality: str | None = None,
) -> Pipeline:
    """Write the pipeline folder of a run's newest checkpoint.

    Args:
        profile: which average (``half-life-0.05``, ``sigma-rel-0.1``, ``raw``); None is the config's ``ema.export``.
        half: store float16.
        sigma_rel: in place of ``profile``, a power-function average of this relative width, made of the run's snapshots.
        modality: which of several, by the name of its data; None is the first. Each has the whole network.

    Raises:
        UserError: ``run`` is no run, has no whole checkpoint, tracks no such average or has no snapshots that make it;
            or the model is gone whose network serves some noise levels.
    """
    config, record = read_run(run)
    method = build_method(config)
    found = checkpoint.newest(run, say)
    if found is None:
        raise UserError(f"{run}: no checkpoint (step-*.ckpt) to export yet")
    path, state = found
    share = share_called(config, modality)
    classes = record.joint_classes.get(share.name, record.classes)
    if config.data.context is not None and record.context is None:
        raise UserError(f"{run / RECORD}: holds no scale of contexts; expected the file as the run wrote it")
    settings = pipeline_config(config, method, share, classes, record.context)
    settings = settings.model_copy(update={"name": out.resolve().name})
    model = settings.build_model()
    try:
        chosen = _restore(model, run, config, state, profile, sigma_rel)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: checkpoint of another architecture than {run / CONFIG} ({error})") from error
    if sigma_rel is not None:
        say(f"{out}: average {chosen}")
    for name, tensor in model.network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {name} of {chosen} holds NaN or infinity; nothing was exported")
    if method.networks > 1:
        try:
            model, settings = assembled(config, method, model, settings, state["method"])
        except UserError as error:
            raise UserError(f"{run}: some noise levels are served by the model that it started from: {error}") from error
    own = record.model_copy(update={"classes": classes, "examples": 0 if config.joint else record.examples})
    step, others = state["step"], _others(config, share)
    card = model_card(share.config, own, share.modality, model, step, chosen, settings.name, seconds_of(run, step), others)
    pipeline = Pipeline(model.eval(), share.modality, settings, card)
    pipeline.save_pretrained(out, half)
    return pipeline


def _restore(
    model: Model, run: Path, config: RunConfig, state: Mapping[str, Any], profile: str | None, sigma_rel: float | None
) -> str:
    """Fill a fresh ``model`` with the average of a checkpoint's ``state`` that is asked for; returns what it is called."""
    chosen = profile or config.ema.export or "raw"
    if sigma_rel is None and chosen != "raw" and chosen not in state["ema"]:
        raise UserError(f"{run}: no average called {chosen!r}; expected one of {', '.join([*state['ema'], 'raw'])}")
    network = {k.removeprefix("network."): v for k, v in state["model"].items() if k.startswith("network.")}
    model.network.load_state_dict(network)
    if sigma_rel is not None:
        names = [name for name, _ in model.network.named_parameters()]
        average, chosen = snapshots.reconstruct(run, config, state["step"], names, state["ema"], sigma_rel)
        fill(model, average)
    elif chosen != "raw":
        fill(model, state["ema"][chosen])
    return chosen


def share_called(config: RunConfig, name: str | None) -> Share:
    """One modality of a run, by the name of its data; the first one where none is asked for."""
    found = {share.name: share for share in shares(config)}
    if name is None:
        return next(iter(found.values()))
    if name not in found:
        raise unknown_name("modality of this run", name, found)
    return found[name]


def _others(config: RunConfig, share: Share) -> list[str]:
    """Names of the modalities beside one."""
    return [other.name for other in shares(config) if other.name != share.name]


def assembled(
    config: RunConfig, method: Method, student: Model, settings: PipelineConfig, state: Mapping[str, Tensor]
) -> tuple[Model, PipelineConfig]:
    """The trained ``student`` and the other networks that its method exports, as one model with its settings.

    Args:
        method: not set up yet. settings: of the student alone. state: the method's own, from a checkpoint.
    """
    name = config.teacher or config.init
    source = None if name is None else load_pipeline(name, config)
    teacher = None if source is None else source.model
    method.setup(student, teacher, Budget(config.trainer.max_steps, config.data.batch_size))
    method.load_state_dict(state, strict=False)
    spans = method.exported(student)
    parts = []
    for model, _, high in spans:
        told = source.config if source is not None and model is teacher else settings
        parts.append(LowerNetwork(sigma_high=high, network=told.network, parameterization=told.parameterization))
    top = {"network": parts[-1].network, "parameterization": parts[-1].parameterization}
    return joined(spans), settings.model_copy(update={**top, "lower": parts[:-1]})


def seconds_of(run: Path, step: int) -> float:
    """Training time up to ``step`` as the log has it, 0 where there is no log."""
    rows = [row for row in read(run / LOG) if row["step"] <= step]
    return rows[-1].get("seconds", 0.0) if rows else 0.0


def read_run(run: Path) -> tuple[RunConfig, RunRecord]:
    """The resolved config and the record of a run's folder.

    Raises:
        UserError: it is not the folder of a run, or its config is damaged.
    """
    if not (run / CONFIG).is_file():
        raise UserError(f"{run}: expected the folder of a run, with {CONFIG} in it")
    return resolve(read_yaml(run / CONFIG), str(run / CONFIG)), read_record(run)
