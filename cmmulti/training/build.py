"""The parts of a run, made from its resolved config."""

from __future__ import annotations

from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import torch
from torch import nn

from cmmulti import registry
from cmmulti.conditioning import NO_CONDITION, NULL_LABEL, Condition
from cmmulti.config import PieceConfig, RunConfig
from cmmulti.errors import UserError
from cmmulti.methods.base import Method
from cmmulti.modality import DataSource, Modality, TrainingSet
from cmmulti.model import Model, evaluating
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.folder import Piece, PipelineConfig
from cmmulti.randomness import key
from cmmulti.training.data import Examples, measured_sigma_data
from cmmulti.training.order import Order

EVALUATION_BATCH = 32
"""Most samples per network call of an exported model: keeps a CPU in its cache and a scan in memory."""


@dataclass
class Parts:
    """What trains: the config with what the data decide filled in, and what it names."""

    config: RunConfig
    modality: Modality
    examples: Examples
    method: Method
    model: Model
    teacher: Model | None
    classes: list[str]


def build(config: RunConfig) -> Parts:
    """Load the data, make the model (from ``init`` where given) and the method.

    Raises:
        UserError: the data is not there or does not fit the network, or ``init`` is of another architecture or modality.
    """
    init = load_pipeline(config.init, config) if config.init else None
    modality = build_modality(config)
    if init is not None:
        modality = adopted(modality, init.modality)
    modality = modality.measured(data_source(config))
    settings = modality.settings.model_dump(mode="json")
    config = config.model_copy(update={"modality": PieceConfig.of(config.modality.name, settings)})
    examples = training_examples(config, modality)
    classes = class_names(config, examples.source)
    if config.sigma_data is None:
        sigma_data = init.config.sigma_data if init is not None else measured_sigma_data(examples)
        config = config.model_copy(update={"sigma_data": sigma_data})
    method = build_method(config)
    model = build_model(config, method, classes)
    check_network(model, modality, method.tells_guidance)
    if init is not None:
        copy_weights(init, model, config)
    teacher = load_teacher(config, init)
    return Parts(config, modality, examples, method, model, teacher, classes)


def build_modality(config: RunConfig) -> Modality:
    """The adapter of a resolved config."""
    kind = registry.load("modalities", config.modality.name)
    modality: Modality = kind(kind.Settings(**config.modality.settings))
    return modality


def build_method(config: RunConfig) -> Method:
    """The method of a resolved config."""
    kind = registry.load("methods", config.method.name)
    method: Method = kind(kind.Settings(**config.method.settings))
    return method


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


def adopted(modality: Modality, trained: Modality) -> Modality:
    """``modality`` with what its settings leave open (None) taken from a trained model's."""
    theirs = {k: v for k, v in trained.settings if getattr(modality.settings, k, 0) is None}
    return type(modality)(modality.settings.model_copy(update=theirs))


def class_names(config: RunConfig, data: TrainingSet) -> list[str]:
    """A name per class that the network is told; the data set's own names where it has them."""
    classes = int(config.network.settings.get("classes", 0) or 0)
    if not classes:
        return []
    highest = int(data.labels.max()) if len(data.labels) else NULL_LABEL
    if highest >= classes:
        raise UserError(f"network.classes = {classes}: the data has label {highest}; expected at least {highest + 1}")
    if highest == NULL_LABEL:
        raise UserError(f"network.classes = {classes}: the data {config.data.name!r} has no labels; expected 0")
    names = list(data.class_names)
    return names if len(names) == classes else [str(i) for i in range(classes)]


def pipeline_config(config: RunConfig, method: Method, classes: list[str]) -> PipelineConfig:
    """What ``config.json`` of the exported model will say."""
    sigma_data = config.sigma_data or 0.5
    form = method.parameterization(sigma_data)
    return PipelineConfig(
        modality=Piece(name=config.modality.name, settings=config.modality.settings),
        network=Piece(name=config.network.name, settings=config.network.settings),
        parameterization=Piece(name=form.kind, settings=_settings_of(form)),
        role=method.role,
        method=config.method.name,
        sigma_data=sigma_data,
        sigma_max=config.sigma_max,
        levels={n: list(levels) for n, levels in method.sampling_levels(config.sigma_max).items()},
        classes=classes,
        evaluation_batch=EVALUATION_BATCH,
    )


def build_model(config: RunConfig, method: Method, classes: list[str]) -> Model:
    """The student with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(key(config.trainer.seed, "init"))
        return pipeline_config(config, method, classes).build_model()


def check_network(model: Model, modality: Modality, guided: bool = False) -> None:
    """One evaluation on silence, so that a network that cannot take these tensors is refused before the run begins.

    ``guided``: it must also hear a guidance weight.

    Raises:
        UserError: naming the shape and the network's own complaint.
    """
    x, time = torch.zeros(1, *modality.shape), torch.zeros(1)
    weight = torch.ones(1, requires_grad=True)
    condition = Condition(guidance=weight) if guided else NO_CONDITION
    told = (time, condition, time) if model.role == "two-time" else (time, condition)
    try:
        with evaluating(model), torch.set_grad_enabled(guided):
            y = model.network(x, *told)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(f"network: does not take {modality.name} tensors of shape {modality.shape}: {error}") from error
    if y.shape != x.shape:
        raise UserError(
            f"network: makes {tuple(y.shape[1:])} of {modality.name} tensors {modality.shape}; expected the same shape"
        )
    # A fresh network answers 0 to everything; whether it hears the weight shows in what its answer is made of.
    if guided and torch.autograd.grad(y.sum(), weight, allow_unused=True)[0] is None:
        raise UserError("network: does not hear the guidance weight that this method tells; set network.guided = true")


def load_pipeline(name: str, config: RunConfig) -> Pipeline:
    """A trained model to start from or to distil, refused unless it is of the same modality."""
    pipeline = Pipeline.from_pretrained(name)
    if pipeline.config.modality.name != config.modality.name:
        raise UserError(f"{name}: a model of modality {pipeline.config.modality.name!r}; expected {config.modality.name!r}")
    theirs = pipeline.modality.settings.model_dump(mode="json")
    if different := sorted(k for k, v in config.modality.settings.items() if v is not None and theirs.get(k) != v):
        told = ", ".join(f"{k} = {theirs.get(k)!r}, expected {config.modality.settings[k]!r}" for k in different)
        raise UserError(f"{name}: a model of other {config.modality.name} settings: {told}")
    return pipeline


def copy_weights(source: Pipeline, model: Model, config: RunConfig) -> None:
    """Start ``model`` from the weights of ``source``.

    A second time or a guidance weight that only the new network hears starts unheard, so that a student begins as what it
    was made from.

    Raises:
        UserError: the networks differ otherwise, or mean another function by the same weights.
    """
    theirs, mine = source.model.network.state_dict(), model.network.state_dict()
    unheard = new_inputs(source, config) if source.config.network.name == config.network.name else set()
    wrong = [n for n in sorted(theirs.keys() | mine.keys()) if (n not in theirs or n not in mine) and n not in unheard]
    wrong += [n for n in theirs if n in mine and theirs[n].shape != mine[n].shape]
    if wrong or source.config.network.name != config.network.name:
        where = f", first {wrong[0]}" if wrong else ""
        raise UserError(
            f"init = {config.init!r}: of another architecture ({len(wrong)} tensors differ{where}); "
            f"its network is {source.config.network.name} {source.config.network.settings}"
        )
    forms = [source.config.parameterization.name, model.parameterization.kind]
    # EDM's and the consistency form feed a network alike; any other pair differs in sign, time or process.
    if len({FED_ALIKE.get(form, form) for form in forms}) > 1:
        hint = "; set method.form = edm" if "form" in config.method.settings and FED_ALIKE.get(forms[0]) else ""
        raise UserError(
            f"init = {config.init!r}: its network has the form {forms[0]!r}, expected {forms[1]!r} for method "
            f"{config.method.name}: the same weights would be another function{hint}"
        )
    model.network.load_state_dict(theirs | {n: torch.zeros_like(mine[n]) for n in unheard if n in mine})


FED_ALIKE = {"edm": "edm", "consistency": "edm"}
"""Parameterizations whose networks have the same input, time and target."""

NEW_INPUTS = ("two_times", "guided")
"""Settings of a network that add an input and change nothing else."""


def new_inputs(source: Pipeline, config: RunConfig) -> set[str]:
    """Names of the weights that ``source``'s network would gain by the inputs that only the new one has."""
    piece = source.config.network
    added = {k: True for k in NEW_INPUTS if config.network.settings.get(k) and not piece.settings.get(k)}
    if not added:
        return set()
    with torch.random.fork_rng(devices=[]):
        twin = registry.load("networks", piece.name)(**{**piece.settings, **added})
    return set(twin.state_dict()) - set(source.model.network.state_dict())


def load_teacher(config: RunConfig, init: Pipeline | None) -> Model | None:
    """The frozen teacher: ``teacher``, or ``init`` for a method that needs one."""
    if config.teacher is not None:
        teacher: Model | None = load_pipeline(config.teacher, config).model
    else:
        needed = registry.load("methods", config.method.name).needs_teacher
        teacher = init.model if init is not None and needed else None
    if teacher is not None:
        teacher.eval().requires_grad_(False)
    return teacher


def order_of(parts: Parts) -> Order:
    """The order of a run's examples."""
    config = parts.config
    return Order(
        len(parts.examples), config.trainer.seed, config.data.batch_size, config.trainer.accumulate, config.processes
    )


def parameter_count(module: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _settings_of(form: Any) -> dict[str, Any]:
    return asdict(form) if is_dataclass(form) and not isinstance(form, type) else {}
