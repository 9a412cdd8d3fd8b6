"""A student whose network is that of the model it starts from, whatever form that network was trained in."""

from __future__ import annotations

import math
from dataclasses import asdict, is_dataclass
from typing import Any

import torch
from torch import nn

from cmmulti import registry
from cmmulti.config import PieceConfig, RunConfig
from cmmulti.config.resolve import NETWORK_OF_INIT
from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.nn.translated import Translated
from cmmulti.parameterization import Parameterization
from cmmulti.pipeline import Pipeline

FED_ALIKE = {"edm": "edm", "consistency": "edm"}
"""Parameterizations whose networks have the same input, time and target."""

TRANSLATES = "; network: {name: init} translates it"

DENOISES = "; it is told two times: network: {name: init} starts from it as it denoises"

NEW_INPUTS = ("two_times", "guided")
"""Settings of a network that add an input and change nothing else."""


def fed_alike(first: str, second: str) -> bool:
    """Whether a network's weights mean the same in both forms."""
    return FED_ALIKE.get(first, first) == FED_ALIKE.get(second, second)


def with_network_of(config: RunConfig, init: Pipeline, form: Parameterization) -> RunConfig:
    """``config`` with ``network: {name: init}`` written out: the network of ``init``, translated where its form is not fed
    like ``form``, in which the method trains.

    Raises:
        UserError: it is to take contexts, of which it knows nothing.
    """
    if config.network.name != NETWORK_OF_INIT:
        return config
    if config.data.context is not None and init.config.context is None:
        told = "its network was trained without contexts; expected one with, or data.context = null"
        raise UserError(f"init = {config.init!r}: {told}")
    theirs, settings = init.config.network, init.config.network.settings
    if fed_alike(init.config.parameterization.name, form.kind):
        return config.model_copy(update={"network": PieceConfig.of(theirs.name, settings)})
    target = {"name": form.kind, "settings": settings_of(form)}
    piece = PieceConfig.of(
        "translated",
        {
            "network": theirs.model_dump(mode="json"),
            "source": init.config.parameterization.model_dump(mode="json"),
            "target": target,
            "classes": int(settings.get("classes", 0) or 0),
        },
    )
    return config.model_copy(update={"network": piece})


def copy_weights(source: Pipeline, model: Model, config: RunConfig) -> None:
    """Start ``model`` from the weights of ``source``.

    A second time or a guidance weight that only the new network takes is without effect at first, so that a student begins
    as what it was made from.

    Raises:
        UserError: the networks differ otherwise, or mean another function by the same weights.
    """
    if inherited(model.network, source):
        return
    theirs, mine = source.model.network.state_dict(), model.network.state_dict()
    unheard = new_inputs(source, config) if source.config.network.name == config.network.name else set()
    wrong = [n for n in sorted(theirs.keys() | mine.keys()) if (n not in theirs or n not in mine) and n not in unheard]
    wrong += [n for n in theirs if n in mine and theirs[n].shape != mine[n].shape]
    if wrong or source.config.network.name != config.network.name:
        where = f", first {wrong[0]}" if wrong else ""
        two_times = [piece.settings.get("two_times", False) for piece in (source.config.network, config.network)]
        raise UserError(
            f"init = {config.init!r}: of another architecture ({len(wrong)} tensors differ{where}); "
            f"its network is {source.config.network.name} {source.config.network.settings}"
            + (DENOISES if two_times == [True, False] else "")
        )
    forms = [source.config.parameterization.name, model.parameterization.kind]
    # EDM's and the consistency form feed a network alike; any other pair differs in sign, time or process.
    if not fed_alike(*forms):
        hint = "; set method.form = edm" if "form" in config.method.settings and fed_alike(forms[0], "edm") else ""
        # A translated network has one time.
        hint = hint or ("" if model.role == "two-time" else TRANSLATES)
        raise UserError(
            f"init = {config.init!r}: its network has the form {forms[0]!r}, expected {forms[1]!r} for method "
            f"{config.method.name}: the same weights would be another function{hint}"
        )
    scales = [getattr(m.parameterization, "sigma_data", 0.0) for m in (source.model, model)]
    if not math.isclose(*scales, rel_tol=1e-4):
        raise UserError(
            f"sigma_data = {scales[1]:g}: expected {scales[0]:g}, that of init = {config.init!r}, or null: "
            "the same weights would be another function"
        )
    model.network.load_state_dict(theirs | {n: torch.zeros_like(mine[n]) for n in unheard if n in mine})


def new_inputs(source: Pipeline, config: RunConfig) -> set[str]:
    """Names of the weights that ``source``'s network would gain by the inputs that only the new one has."""
    piece = source.config.network
    added = {k: True for k in NEW_INPUTS if config.network.settings.get(k) and not piece.settings.get(k)}
    if not added:
        return set()
    with torch.random.fork_rng(devices=[]):
        twin = registry.load("networks", piece.name)(**{**piece.settings, **added})
    return set(twin.state_dict()) - set(source.model.network.state_dict())


def inherited(network: nn.Module, init: Pipeline) -> bool:
    """Fill a network that translates that of ``init`` with its weights; False where it is another."""
    if not isinstance(network, Translated):
        return False
    wanted = [piece.model_dump(mode="json") for piece in (init.config.network, init.config.parameterization)]
    if [network.piece, network.source_piece] != wanted:
        return False
    network.network.load_state_dict(init.model.network.state_dict())
    return True


def settings_of(form: Any) -> dict[str, Any]:
    """A parameterization's own settings, as a config has them."""
    return asdict(form) if is_dataclass(form) and not isinstance(form, type) else {}
