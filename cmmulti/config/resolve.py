"""From a mapping to a run with no gaps: every section checked, every default named.

Methods, modalities and networks are asked for by name, and each checks its own settings. All mistakes of a config are
told at once.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from cmmulti import registry
from cmmulti.config.checking import checked, mistakes
from cmmulti.config.joint import joint_network
from cmmulti.config.schema import EMAConfig, PieceConfig, RunConfig
from cmmulti.config.text import read_yaml, with_overrides
from cmmulti.errors import UserError

NETWORK = "unet"
"""The network of a config that names none, and the one that adapters have settings for."""

SNAPSHOT_WIDTHS = (0.05, 0.1)
"""The two widths that EDM2 keeps snapshots of (arXiv 2312.02696, section 3.2)."""

NETWORK_OF_INIT = "init"
"""Names the network of the model that a run starts from, with its settings and whatever form it was trained in."""

DATA_KEYS = ("dims", "in_channels")
"""What an adapter tells any network that has such a setting: the shape of the data."""


def load_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """The resolved run of a YAML file with ``--set`` on top.

    Raises:
        UserError: one line with every mistake in it.
    """
    values = with_overrides(read_yaml(path), overrides)
    if "method" not in values and values.keys() & {"methods", "cells"}:
        raise UserError(f"{path}: the config of a comparison; expected that of one run (`cmmulti compare` takes the other)")
    return resolve(values, str(path))


def resolve(values: Mapping[str, Any], where: str = "config") -> RunConfig:
    """Check ``values`` and fill what they leave open from the method and the adapter.

    Raises:
        UserError: one line with every mistake in them; ``where`` begins it.
    """
    wrong: list[str] = []
    network = values.get("network")
    if isinstance(network, Mapping):
        values = {**values, "network": {"name": NETWORK, **network}}
    try:
        config = RunConfig.model_validate(dict(values))
    except ValidationError as error:
        wrong += mistakes(error, RunConfig)
        config = None
    pieces = _Pieces(values, wrong)
    method, modality = pieces.method(), pieces.modality()
    settings = pieces.network(modality)
    further = pieces.further(modality, settings) if config is not None and config.joint else {}
    ema = None
    if config is not None and method is not None:
        recommended = method.recommended()
        name = config.optimizer.name or recommended.optimizer
        if config.optimizer.implementation == "fused" and name == "radam":
            wrong.append("optimizer.implementation = 'fused': radam has none; expected 'foreach' or another optimizer.name")
        ema = _averages(config.ema, recommended.ema, wrong)
    if wrong or config is None or ema is None:
        raise UserError(f"{where}: " + "; ".join(wrong))
    optimizer, trainer, preview = config.optimizer, config.trainer, config.preview
    optimizer = optimizer.model_copy(
        update={
            "name": optimizer.name or recommended.optimizer,
            "learning_rate": optimizer.learning_rate or recommended.learning_rate,
            "betas": optimizer.betas or recommended.betas,
        }
    )
    trainer = trainer.model_copy(update={"clip": recommended.clip if trainer.clip is None else trainer.clip})
    if preview.steps is None:
        own = tuple(sorted(method.sampling_levels(config.sigma_max)))
        preview = preview.model_copy(update={"steps": own or ((18,) if method.role == "teacher" else (1, 2))})
    return config.model_copy(
        update={
            "modality": PieceConfig.of(config.modality.name, modality.settings.model_dump(mode="json")),
            "joint": {
                name: part.model_copy(update={"modality": PieceConfig.of(part.modality.name, further[name])})
                for name, part in config.joint.items()
            },
            "network": PieceConfig.of(config.network.name, settings),
            "method": PieceConfig.of(config.method.name, method.settings.model_dump(mode="json")),
            "optimizer": optimizer,
            "ema": ema,
            "trainer": trainer,
            "preview": preview,
        }
    )


def profiles(ema: EMAConfig) -> list[str]:
    """Names of the averages that a resolved config tracks, in order."""
    return [f"half-life-{h:g}" for h in ema.half_lives or ()] + [f"sigma-rel-{s:g}" for s in ema.sigma_rel or ()]


def signature_model(function: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of a constructor's keyword arguments, from its signature."""
    fields: dict[str, Any] = {}
    extra = "forbid"
    hints = _hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
    config = ConfigDict(extra=extra, arbitrary_types_allowed=True, protected_namespaces=())  # type: ignore[typeddict-item]
    model: type[BaseModel] = create_model("Settings", __config__=config, **fields)
    return model


class _Pieces:
    """Loads and checks the registered pieces of a config, noting mistakes instead of raising at the first."""

    def __init__(self, values: Mapping[str, Any], wrong: list[str]) -> None:
        self.values, self.wrong = values, wrong

    def method(self) -> Any:
        return self._made("methods", "method")

    def modality(self) -> Any:
        return self._made("modalities", "modality")

    def network(self, modality: Any) -> dict[str, Any]:
        """All settings of the network: the adapter's defaults below the config's own."""
        given = self._section("network", {"name": NETWORK})
        if given is None:
            return {}
        name, settings = given
        if name == NETWORK_OF_INIT:
            if not self.values.get("init"):
                self.wrong.append("network.name = 'init': expected `init:` or --init, the model whose network it is")
            self.wrong += [f"network.{key}: expected none, the network is that of `init`" for key in settings]
            return {}
        try:
            maker = registry.load("networks", name)
            model = signature_model(maker)
        except UserError as error:
            self.wrong.append(f"network.name: {error}")
            return {}
        known = set(model.model_fields)
        defaults = {} if modality is None else modality.network()
        if name != NETWORK:
            defaults = {k: v for k, v in defaults.items() if k in DATA_KEYS and k in known}
        merged = {**defaults, **settings}
        try:
            model.model_validate(merged)
        except ValidationError as error:
            # Where the adapter's own mistake left its defaults out, what is missing is no mistake of the config.
            lacking = [m for m in mistakes(error, model) if modality is not None or not m.startswith("missing")]
            self.wrong += [f"network: {m}" for m in lacking]
        return merged

    def further(self, first: Any, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Settings of a joint model's further modalities; the network's are changed to take them all."""
        found: dict[str, Any] = {}
        for name, part in self.values["joint"].items():
            piece = {str(k): v for k, v in part["modality"].items()}
            made = self._piece("modalities", f"joint.{name}.modality", piece.pop("name"), piece)
            if made is not None:
                found[name] = made
        name, _ = self._section("network", {"name": NETWORK}) or (NETWORK, {})
        if name == NETWORK_OF_INIT:
            self.wrong.append(
                "network.name = 'init': expected the name and settings of a network: a joint model is told them"
            )
            return {}
        if first is None or len(found) < len(self.values["joint"]) or (self.wrong and not settings):
            return {}
        known = signature_model(registry.load("networks", name)).model_fields
        settings |= joint_network(settings, {"modality": first, **found}, known, self.wrong)
        return {name: each.settings.model_dump(mode="json") for name, each in found.items()}

    def _made(self, group: str, section: str) -> Any:
        given = self._section(section, None)
        return None if given is None else self._piece(group, section, *given)

    def _piece(self, group: str, section: str, name: str, settings: Mapping[str, Any]) -> Any:
        """A registered piece with its settings; None where they are wrong, which is noted."""
        try:
            kind = registry.load(group, name)
        except UserError as error:
            self.wrong.append(f"{section}.name: {error}")
            return None
        try:
            return kind(checked(kind.Settings, settings, section))
        except UserError as error:
            self.wrong.append(str(error))
            return None

    def _section(self, name: str, default: dict[str, Any] | None) -> tuple[str, dict[str, Any]] | None:
        """Name and settings of a piece; None where the structure is wrong, which the schema has told."""
        section = self.values.get(name, default)
        if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
            return None
        return section["name"], {str(k): v for k, v in section.items() if k != "name"}


def _averages(ema: EMAConfig, recommended: Sequence[float], wrong: list[str]) -> EMAConfig:
    """The averages with their half-lives, widths and the exported one filled in."""
    half_lives = tuple(recommended) if ema.half_lives is None else ema.half_lives
    sigma_rel = SNAPSHOT_WIDTHS if ema.snapshots and ema.sigma_rel is None else ema.sigma_rel
    ema = ema.model_copy(update={"half_lives": half_lives, "sigma_rel": sigma_rel})
    names, export = profiles(ema), ema.export
    if export is None:
        export = names[len(half_lives) - 1 if half_lives else -1] if names else "raw"
    elif export not in (*names, "raw"):
        wrong.append(f"ema.export = {export!r}: expected one of {', '.join([*names, 'raw'])}")
    return ema.model_copy(update={"export": export})


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function.__init__ if inspect.isclass(function) else function
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError):
        return {}
