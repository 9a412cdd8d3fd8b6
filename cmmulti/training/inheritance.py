"""A student whose network is that of the model it starts from, whatever form that network was trained in."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from torch import nn

from cmmulti.config import PieceConfig, RunConfig
from cmmulti.config.resolve import NETWORK_OF_INIT
from cmmulti.nn.translated import Translated
from cmmulti.parameterization import Parameterization
from cmmulti.pipeline import Pipeline

FED_ALIKE = {"edm": "edm", "consistency": "edm"}
"""Parameterizations whose networks have the same input, time and target."""


def fed_alike(first: str, second: str) -> bool:
    """Whether a network's weights mean the same in both forms."""
    return FED_ALIKE.get(first, first) == FED_ALIKE.get(second, second)


def with_network_of(config: RunConfig, init: Pipeline, form: Parameterization) -> RunConfig:
    """``config`` with ``network: {name: init}`` written out: the network of ``init``, translated where its form is not fed
    like ``form``, in which the method trains.
    """
    if config.network.name != NETWORK_OF_INIT:
        return config
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
