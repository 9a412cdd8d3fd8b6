"""The parts of a run, made from its resolved config."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cmmulti import registry
from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.config import PieceConfig, RunConfig
from cmmulti.errors import UserError
from cmmulti.methods.base import Method
from cmmulti.modality import Modality
from cmmulti.model import Model, evaluating
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.config import Piece, PipelineConfig
from cmmulti.randomness import key
from cmmulti.training.data import Examples, measured_sigma_data
from cmmulti.training.inheritance import fed_alike, inherited, settings_of, with_network_of
from cmmulti.training.joint import JointExamples, JointOrder
from cmmulti.training.order import Order
from cmmulti.training.sources import (
    Share,
    build_modality,
    class_names,
    data_source,
    measured,
    shares,
    training_examples,
)

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
    classes: dict[str, list[str]]
    shares: list[Share]


def build(config: RunConfig) -> Parts:
    """Load the data, make the model (from ``init`` where given) and the method.

    Raises:
        UserError: the data is not there or does not fit the network, or ``init`` is of another architecture or modality.
    """
    init = load_pipeline(config.init, config) if config.init else None
    modality = build_modality(config)
    if init is not None:
        modality = adopted(modality, init.modality)
        form = build_method(config).parameterization(config.sigma_data or init.config.sigma_data)
        config = with_network_of(config, init, form)
    modality = modality.measured(data_source(config))
    settings = modality.settings.model_dump(mode="json")
    config = measured(config.model_copy(update={"modality": PieceConfig.of(config.modality.name, settings)}))
    parts = shares(config)
    loaded = [training_examples(part.config, part.modality) for part in parts]
    classes = {
        part.name: class_names(part.classes, part.name, examples.source)
        for part, examples in zip(parts, loaded, strict=True)
    }
    if config.sigma_data is None:
        sigma_data = init.config.sigma_data if init is not None else _common([measured_sigma_data(e) for e in loaded])
        config = config.model_copy(update={"sigma_data": sigma_data})
    method = build_method(config)
    model = build_model(config, method, parts[0], classes[parts[0].name])
    for part in parts:
        check_network(model, part.modality, method.tells_guidance)
    if method.guided and not any(classes.values()):
        raise UserError("method.guidance: expected none: the network knows no classes (network.classes = 0)")
    if init is not None:
        copy_weights(init, model, config)
    teacher = load_teacher(config, init)
    firsts = [part.first_label if part.classes else None for part in parts]
    examples = JointExamples(loaded, firsts) if config.joint else loaded[0]
    return Parts(config, modality, examples, method, model, teacher, classes, parts)


def _common(deviations: Sequence[float]) -> float:
    """One standard deviation for several modalities that count alike."""
    return float(f"{math.sqrt(sum(d * d for d in deviations) / len(deviations)):.6g}")


def build_method(config: RunConfig) -> Method:
    """The method of a resolved config."""
    kind = registry.load("methods", config.method.name)
    method: Method = kind(kind.Settings(**config.method.settings))
    return method


def adopted(modality: Modality, trained: Modality) -> Modality:
    """``modality`` with what its settings leave open (None) taken from a trained model's."""
    theirs = {k: v for k, v in trained.settings if getattr(modality.settings, k, 0) is None}
    return type(modality)(modality.settings.model_copy(update=theirs))


def pipeline_config(config: RunConfig, method: Method, share: Share, classes: list[str]) -> PipelineConfig:
    """What ``config.json`` of the exported model will say, of one modality of the run."""
    sigma_data = config.sigma_data or 0.5
    form = method.parameterization(sigma_data)
    return PipelineConfig(
        modality=Piece(name=share.config.modality.name, settings=share.config.modality.settings),
        network=Piece(name=config.network.name, settings=config.network.settings),
        parameterization=Piece(name=form.kind, settings=settings_of(form)),
        role=method.role,
        method=config.method.name,
        sigma_data=sigma_data,
        sigma_max=config.sigma_max,
        levels={n: list(levels) for n, levels in method.sampling_levels(config.sigma_max).items()},
        classes=classes,
        evaluation_batch=EVALUATION_BATCH,
        modality_index=share.index,
        first_label=share.first_label,
    )


def build_model(config: RunConfig, method: Method, share: Share, classes: list[str]) -> Model:
    """The student with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(key(config.trainer.seed, "init"))
        return pipeline_config(config, method, share, classes).build_model()


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
    """A trained model to start from or to distil, refused unless it is one network of the same modality."""
    pipeline = Pipeline.from_pretrained(name)
    if pipeline.config.modality.name != config.modality.name:
        raise UserError(f"{name}: a model of modality {pipeline.config.modality.name!r}; expected {config.modality.name!r}")
    if pipeline.config.lower:
        raise UserError(
            f"{name}: a model of {len(pipeline.config.files)} networks, each for its own noise levels; "
            "expected one of a single network to start from or to distil"
        )
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
    if inherited(model.network, source):
        return
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
    if not fed_alike(*forms):
        hint = "; set method.form = edm" if "form" in config.method.settings and fed_alike(forms[0], "edm") else ""
        raise UserError(
            f"init = {config.init!r}: its network has the form {forms[0]!r}, expected {forms[1]!r} for method "
            f"{config.method.name}: the same weights would be another function{hint or TRANSLATES}"
        )
    model.network.load_state_dict(theirs | {n: torch.zeros_like(mine[n]) for n in unheard if n in mine})


TRANSLATES = "; network: {name: init} translates it"

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
        source: Pipeline | None = load_pipeline(config.teacher, config)
    else:
        source = init if registry.load("methods", config.method.name).needs_teacher else None
    if source is None:
        return None
    teacher = source.model
    if teacher.sigma_max < config.sigma_max * (1 - 1e-6):
        raise UserError(
            f"sigma_max = {config.sigma_max:g}: the teacher was trained up to {teacher.sigma_max:g}; expected no more"
        )
    if build_method(config).guided and not source.config.classes:
        raise UserError("method.guidance: expected none: the teacher knows no classes to be guided by")
    return teacher.eval().requires_grad_(False)


def order_of(parts: Parts) -> Order:
    """The order of a run's examples."""
    config, examples = parts.config, parts.examples
    if isinstance(examples, JointExamples):
        orders = [_order(len(own), share.config) for own, share in zip(examples.parts, parts.shares, strict=True)]
        return JointOrder(orders, config.trainer.seed)
    return _order(len(examples), config)


def _order(n: int, config: RunConfig) -> Order:
    return Order(n, config.trainer.seed, config.data.batch_size, config.trainer.accumulate, config.processes)


def parameter_count(module: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
