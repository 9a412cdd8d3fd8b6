"""The distance that a loss is made of: of the elements, or of a named network's features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast, get_args

from pydantic import PlainSerializer, PlainValidator, ValidationError
from torch import Tensor, nn

from cmmulti import registry
from cmmulti.config import PieceConfig
from cmmulti.config.checking import mistakes
from cmmulti.config.resolve import signature_model
from cmmulti.distances import Distance, distance, feature_distance
from cmmulti.errors import REFUSALS, UserError
from cmmulti.nn.feature_network import FeatureNetwork
from cmmulti.nn.precision import full_precision

ELEMENTS: tuple[str, ...] = get_args(Distance)


def _read(value: object) -> Distance | PieceConfig:
    """A known name, or a registered feature network with settings that it knows."""
    if isinstance(value, str) and value in ELEMENTS:
        return cast(Distance, value)
    if isinstance(value, PieceConfig):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(
            f"expected one of {', '.join(ELEMENTS)}, or a feature network such as {{name: classifier, path: DIR}}"
        )
    piece = PieceConfig.of(value["name"], {str(k): v for k, v in value.items() if k != "name"})
    try:
        settings = signature_model(registry.load("feature_networks", piece.name))
        settings.model_validate(piece.settings)
    except UserError as error:
        raise ValueError(str(error)) from error
    except ValidationError as error:
        raise ValueError("; ".join(mistakes(error, settings))) from error
    return piece


def _written(value: Distance | PieceConfig) -> str | dict[str, Any]:
    return value.model_dump(mode="json") if isinstance(value, PieceConfig) else value


TrainingDistance = Annotated[Distance | PieceConfig, PlainValidator(_read), PlainSerializer(_written)]
"""Of a method's settings: ``l2``, ``l1``, ``huber``, ``elementwise-huber``, or ``{name: NETWORK, ...}``, a registered
feature network with its settings."""


class ElementDistance(nn.Module):
    """:func:`cmmulti.distances.distance` as a module."""

    def __init__(self, kind: Distance) -> None:
        super().__init__()
        self.kind: Distance = kind

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B, ...), (B, ...) -> (B,)."""
        return distance(self.kind, a, b)


class FeatureDistance(nn.Module):
    """LPIPS without learned weights on the features of a frozen network (Zhang et al. 2018, arXiv 1801.03924, eq. 1).

    The network computes in float32 whatever autocast says, stays in evaluation mode, and its weights are saved with the
    run: another file under the same name does not change a run that goes on.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FeatureDistance:
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B, C, *spatial) twice -> (B,); the gradient reaches both."""
        network = cast(FeatureNetwork, self.network)
        with full_precision(a.device):
            return feature_distance(network.layers(a.float()), network.layers(b.float()))


def distance_of(setting: Distance | PieceConfig) -> nn.Module:
    """What a method's setting names, with its weights.

    Raises:
        UserError: the network's files are not there or not whole, or it cannot be made of its settings.
    """
    if not isinstance(setting, PieceConfig):
        return ElementDistance(setting)
    settings: dict[str, Any] = setting.settings
    maker = registry.load("feature_networks", setting.name)
    try:
        network = maker(**settings)
    except REFUSALS as error:
        told = str(error) or type(error).__name__
        raise UserError(f"method.distance: {setting.name}: {told} (settings {settings})") from error
    return FeatureDistance(network)
