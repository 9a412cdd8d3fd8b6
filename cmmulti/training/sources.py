"""What a resolved config names, made: the adapter, the data and the classes; of a joint model, those of each modality."""

from __future__ import annotations

from dataclasses import dataclass

from cmmulti import registry
from cmmulti.conditioning import NULL_LABEL
from cmmulti.config import PieceConfig, RunConfig
from cmmulti.config.joint import classes_of
from cmmulti.errors import UserError
from cmmulti.modality import DataSource, Modality, TrainingSet
from cmmulti.training.data import Examples


@dataclass(frozen=True)
class Share:
    """One modality of a run: of a joint model one of several, else the only one.

    Args:
        name: of its exported folder. config: the run as if this modality were its only one.
        index: what the network is told; None where it is not told. first_label: of its classes among all.
    """

    name: str
    config: RunConfig
    modality: Modality
    index: int | None
    first_label: int
    classes: int


def shares(config: RunConfig) -> list[Share]:
    """The modalities of a resolved config, the first being that of ``modality:`` and ``data:``."""
    found: list[Share] = []
    sections = {config.data.name: (config.modality, config.data)}
    sections |= {name: (part.modality, part.data.beside(config.data)) for name, part in config.joint.items()}
    label = 0
    for index, (name, (piece, data)) in enumerate(sections.items()):
        own = config.model_copy(update={"modality": piece, "data": data, "joint": {}})
        modality = build_modality(own)
        classes = classes_of(modality) if config.joint else int(config.network.settings.get("classes", 0) or 0)
        found.append(Share(name, own, modality, index if config.joint else None, label, classes))
        label += classes
    return found


def measured(config: RunConfig) -> RunConfig:
    """``config`` with what the settings of its further modalities leave open measured on their train splits."""
    parts = {}
    for name, part in config.joint.items():
        own = config.model_copy(update={"modality": part.modality, "data": part.data.beside(config.data)})
        settings = build_modality(own).measured(data_source(own)).settings.model_dump(mode="json")
        parts[name] = part.model_copy(update={"modality": PieceConfig.of(part.modality.name, settings)})
    return config.model_copy(update={"joint": parts})


def build_modality(config: RunConfig) -> Modality:
    """The adapter of a resolved config."""
    kind = registry.load("modalities", config.modality.name)
    modality: Modality = kind(kind.Settings(**config.modality.settings))
    return modality


def training_examples(config: RunConfig, modality: Modality) -> Examples:
    """The train split, checked to hold something."""
    data = config.data
    training_set = modality.dataset(data_source(config), "train")
    if len(training_set) == 0:
        raise UserError(f"data.name = {data.name!r}: the train split holds nothing")
    return Examples(training_set, config.trainer.seed, modality.shape, data.on_bad_file == "skip")


def data_source(config: RunConfig) -> DataSource:
    """What the ``data:`` section names, as an adapter takes it."""
    data = config.data
    return DataSource(name=data.name, root=data.root, on_bad_file=data.on_bad_file, options=data.options)


def class_names(classes: int, name: str, data: TrainingSet) -> list[str]:
    """A name per class that the network is told; the data set's own names where it has them."""
    if not classes:
        return []
    highest = int(data.labels.max()) if len(data.labels) else NULL_LABEL
    if highest >= classes:
        raise UserError(f"network.classes = {classes}: the data has label {highest}; expected at least {highest + 1}")
    if highest == NULL_LABEL:
        told = f"network.classes = {classes}: the data {name!r} has no labels"
        raise UserError(f"{told}; expected 0 (modality.classes = 0), or folders or a manifest that give labels")
    names = list(data.class_names)
    return names if len(names) == classes else [str(i) for i in range(classes)]
