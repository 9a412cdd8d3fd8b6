"""The contexts of a run: read, matched with its items, and on the scale that its model will keep."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cmmulti import registry
from cmmulti.config import PieceConfig, RunConfig
from cmmulti.config.resolve import signature_model
from cmmulti.contexts import ContextScale, ContextTable, read_contexts
from cmmulti.errors import UserError
from cmmulti.modality import TrainingSet
from cmmulti.pipeline import Pipeline


@dataclass(frozen=True)
class Contexts:
    """The file that ``data.context`` names, and the scale on which the network is told its entries.

    ``root``: of the data, which file names in the table are relative to.
    """

    table: ContextTable
    scale: ContextScale
    root: str

    def of(self, source: TrainingSet) -> Tensor:
        """(n, tokens, width) for the items of one split.

        Raises:
            UserError: an item has no context in the file.
        """
        return self.scale.told(self.scale.of_table(self.table, self.table.of(files_below(self.root, source))))


def files_below(root: str, source: TrainingSet) -> list[str]:
    """The file of each item, relative to the folder (or archive) ``root``."""
    return [file.removeprefix(f"{root}/").removeprefix(f"{root}:") for file in source.files]


def contexts_of(config: RunConfig, source: TrainingSet, trained: Mapping[str, Pipeline | None]) -> Contexts | None:
    """What ``data.context`` names, None where it names nothing.

    Args:
        source: the train split. trained: ``init`` and ``teacher``. The scale is theirs where they know contexts, so that
            the same numbers mean the same; else it is measured.

    Raises:
        UserError: the file cannot be read or does not fit the items or the trained models.
    """
    known = {key: pipe.config.context for key, pipe in trained.items() if pipe is not None and pipe.config.context}
    if config.data.context is None:
        if "init" in known:
            raise UserError(f"init = {config.init!r}: takes contexts, {known['init'].described}; expected data.context")
        return None
    table = read_contexts(config.data.context)
    root = str(config.data.root or Path(os.environ.get("CMMULTI_DATA", "")))
    scales = list(known.values())
    if any(scale != scales[0] for scale in scales):
        raise UserError("init, teacher: their contexts differ in names or scale; expected one trained with the other's")
    scale = scales[0] if scales else ContextScale.measured(table, table.of(files_below(root, source)))
    return Contexts(table, scale, root)


def with_width(config: RunConfig, contexts: Contexts | None) -> RunConfig:
    """``config`` with ``network.context_width`` filled in as the data want it.

    Raises:
        UserError: the network has no such setting, or another value is there.
    """
    name, settings = config.network.name, config.network.settings
    # The inputs of a translated network are settings of the one inside.
    inner = settings["network"].get("settings", {}) if name == "translated" else settings
    given = int(inner.get("context_width", 0) or 0)
    if contexts is None:
        if given:
            raise UserError(f"network.context_width = {given}: expected 0 without data.context, the file of contexts")
        return config
    width = contexts.scale.width
    if "context_width" not in signature_model(registry.load("networks", name)).model_fields and not given:
        raise UserError(f"network.name = {name!r}: takes no context; expected a network with the setting context_width")
    if given not in (0, width):
        told = f"the {width - 1} features of {contexts.table.path} and one that tells them from none"
        raise UserError(f"network.context_width = {given}: expected {width}, {told}, or leave it out")
    if given:
        return config
    return config.model_copy(update={"network": PieceConfig.of(name, {**settings, "context_width": width})})
