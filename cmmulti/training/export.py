"""From a run to a pipeline folder: averaged weights, settings, and a card written from what happened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cmmulti.config import RunConfig, read_yaml, resolve
from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.pipeline import Pipeline
from cmmulti.training import checkpoint, snapshots
from cmmulti.training.build import build_method, build_modality, pipeline_config
from cmmulti.training.callbacks.log_file import read
from cmmulti.training.card import model_card
from cmmulti.training.folder import CONFIG, LOG, RunRecord, read_record
from cmmulti.training.module import TrainingModule
from cmmulti.training.quiet import say
from cmmulti.training.sharding import whole


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
    run: Path, out: Path, profile: str | None = None, half: bool = False, sigma_rel: float | None = None
) -> Pipeline:
    """Write the pipeline folder of a run's newest checkpoint.

    Args:
        profile: which average (``half-life-0.05``, ``sigma-rel-0.1``, ``raw``); None is the config's ``ema.export``.
        half: store float16.
        sigma_rel: in place of ``profile``, a power-function average of this relative width, made of the run's snapshots.

    Raises:
        UserError: ``run`` is no run, has no whole checkpoint, tracks no such average, has no snapshots to make one of, or
            made several networks.
    """
    config, record = read_run(run)
    method = build_method(config)
    if method.networks > 1:
        raise UserError(
            f"{run}: method {config.method.name} makes {method.networks} networks, each for its own noise levels; "
            "expected a method of one network, which is what a model folder holds"
        )
    found = checkpoint.newest(run, say)
    if found is None:
        raise UserError(f"{run}: no checkpoint (step-*.ckpt) to export yet")
    path, state = found
    settings = pipeline_config(config, method, record.classes).model_copy(update={"name": out.name})
    model = settings.build_model()
    chosen = profile or config.ema.export or "raw"
    try:
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
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: checkpoint of another architecture than {run / CONFIG} ({error})") from error
    for name, tensor in model.network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {name} of {chosen} holds NaN or infinity; nothing was exported")
    modality = build_modality(config)
    card = model_card(config, record, modality, model, state["step"], chosen, out.name, seconds_of(run, state["step"]))
    pipeline = Pipeline(model.eval(), modality, settings, card)
    pipeline.save_pretrained(out, half)
    return pipeline


def seconds_of(run: Path, step: int) -> float:
    """Training time up to ``step`` as the log has it, 0 where there is no log."""
    path = run / LOG
    rows = [row for row in read(path) if row["step"] <= step] if path.is_file() else []
    return rows[-1].get("seconds", 0.0) if rows else 0.0


def read_run(run: Path) -> tuple[RunConfig, RunRecord]:
    """The resolved config and the record of a run's folder."""
    if not (run / CONFIG).is_file():
        raise UserError(f"{run}: expected the folder of a run, with {CONFIG} in it")
    return resolve(read_yaml(run / CONFIG), str(run / CONFIG)), read_record(run)
