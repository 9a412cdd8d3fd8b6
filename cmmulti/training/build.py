"""The parts of a run, made from its resolved config."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cmmulti import registry
from cmmulti.config import PieceConfig, RunConfig
from cmmulti.contexts import ContextScale
from cmmulti.errors import UserError
from cmmulti.methods.base import Method
from cmmulti.modality import Modality
from cmmulti.model import Model
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.conditioned import NEVER_WITHOUT
from cmmulti.pipeline.config import Piece, PipelineConfig
from cmmulti.randomness import key
from cmmulti.training.contexts import Contexts, contexts_of, with_width
from cmmulti.training.data import Examples, measured_sigma_data
from cmmulti.training.inheritance import copy_weights, settings_of, with_network_of
from cmmulti.training.joint import JointExamples, JointOrder
from cmmulti.training.network_check import check_network
from cmmulti.training.order import Order
from cmmulti.training.origins import Origin, origin_of
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
    """What trains: the config with what the data decide filled in, and what it names.

    ``origins``: the models that it is made from, by their key in the config.
    """

    config: RunConfig
    modality: Modality
    examples: Examples
    method: Method
    model: Model
    teacher: Model | None
    classes: dict[str, list[str]]
    shares: list[Share]
    contexts: Contexts | None = None
    origins: dict[str, Origin] = field(default_factory=dict)

    @property
    def scale(self) -> ContextScale | None:
        """Of the contexts that the model takes, if it takes any."""
        return None if self.contexts is None else self.contexts.scale


def build(config: RunConfig) -> Parts:
    """Load the data, make the model (from ``init`` where given) and the method.

    Raises:
        UserError: the data is not there or does not fit the network, or ``init`` is of another architecture or modality.
    """
    init = load_pipeline(config.init, config) if config.init else None
    distilled = teacher_of(config, init)
    modality = build_modality(config)
    if (source := init or distilled) is not None:
        modality = adopted(modality, source.modality)
    if distilled is not None:
        same_representation(config.teacher or str(config.init), distilled, modality.settings.model_dump(mode="json"))
    if init is not None:
        form = build_method(config).parameterization(config.sigma_data or init.config.sigma_data)
        config = with_network_of(config, init, form)
    modality = modality.measured(data_source(config))
    settings = modality.settings.model_dump(mode="json")
    config = measured(config.model_copy(update={"modality": PieceConfig.of(config.modality.name, settings)}))
    parts = shares(config)
    loaded = [training_examples(part.config, part.modality) for part in parts]
    contexts = contexts_of(config, loaded[0].source, {"init": init, "teacher": distilled})
    config = with_width(config, contexts)
    loaded[0].contexts = None if contexts is None else contexts.of(loaded[0].source)
    classes = {
        part.name: class_names(part.classes, part.name, examples.source)
        for part, examples in zip(parts, loaded, strict=True)
    }
    if config.sigma_data is None:
        sigma_data = init.config.sigma_data if init is not None else _common([measured_sigma_data(e) for e in loaded])
        config = config.model_copy(update={"sigma_data": sigma_data})
    method = build_method(config)
    scale = None if contexts is None else contexts.scale
    model = build_model(config, method, parts[0], classes[parts[0].name], scale)
    for part in parts:
        check_network(model, part.modality, method.tells_guidance, scale, method.differentiates)
    if method.guided and not any(classes.values()) and scale is None:
        raise UserError("method.guidance: expected none: the network knows no classes (network.classes = 0)")
    if method.guides_itself and not (any(classes.values()) or scale):
        raise UserError("method.omega, method.kappa: expected 1 and 0, no guidance: the network knows no classes")
    if method.guides_itself and not config.label_dropout:
        raise UserError("label_dropout = 0: expected above 0: guidance in training needs answers without a label")
    if init is not None:
        copy_weights(init, model, config)
    teacher = None if distilled is None else frozen_teacher(config, distilled)
    firsts = [part.first_label if part.classes else None for part in parts]
    examples = JointExamples(loaded, firsts) if config.joint else loaded[0]
    named = [("init", config.init, init), ("teacher", config.teacher, distilled)]
    origins = {key: origin_of(name, made) for key, name, made in named if name is not None and made is not None}
    return Parts(config, modality, examples, method, model, teacher, classes, parts, contexts, origins)


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


def pipeline_config(
    config: RunConfig, method: Method, share: Share, classes: list[str], context: ContextScale | None = None
) -> PipelineConfig:
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
        context=context,
        guidance=method.told_guidance,
        sampler=method.sampler,
        # A method that guides itself learns without a condition only what guides it, not to generate.
        unconditional=(config.label_dropout > 0 and not method.guides_itself) or not (classes or context),
        data=Piece(name=share.config.data.name, settings=share.config.data.options),
    )


def build_model(
    config: RunConfig, method: Method, share: Share, classes: list[str], context: ContextScale | None = None
) -> Model:
    """The student with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(key(config.trainer.seed, "init"))
        return pipeline_config(config, method, share, classes, context).build_model()


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
    same_representation(name, pipeline, config.modality.settings)
    return pipeline


def same_representation(name: str, pipeline: Pipeline, settings: Mapping[str, Any]) -> None:
    """Refuse a model whose tensors mean something else than those of a modality with ``settings``; None leaves one open."""
    theirs = pipeline.modality.settings.model_dump(mode="json")
    if different := sorted(k for k, v in settings.items() if v is not None and theirs.get(k) != v):
        told = ", ".join(f"{k} = {theirs.get(k)!r}, expected {settings[k]!r}" for k in different)
        raise UserError(f"{name}: a model of other {pipeline.config.modality.name} settings: {told}")


def teacher_of(config: RunConfig, init: Pipeline | None) -> Pipeline | None:
    """What a student is taught by: ``teacher``, or ``init`` for a method that needs one.

    Raises:
        UserError: there is a ``teacher`` that the method would not listen to.
    """
    if not registry.load("methods", config.method.name).needs_teacher:
        if config.teacher is not None:
            told = f"method {config.method.name} has no teacher; expected null, and `init` to start from its weights"
            raise UserError(f"teacher = {config.teacher!r}: {told}")
        return None
    return init if config.teacher is None else load_pipeline(config.teacher, config)


def frozen_teacher(config: RunConfig, source: Pipeline) -> Model:
    """Its model, refused where it was not trained on all that the student is to learn."""
    teacher = source.model
    if teacher.sigma_max < config.sigma_max * (1 - 1e-6):
        raise UserError(
            f"sigma_max = {config.sigma_max:g}: the teacher was trained up to {teacher.sigma_max:g}; expected no more"
        )
    if build_method(config).guided and not source.config.conditional:
        raise UserError("method.guidance: expected none: the teacher knows no classes to be guided by")
    if source.config.conditional and not source.config.unconditional:
        name = config.teacher or config.init
        if build_method(config).guided:
            raise UserError(f"method.guidance: expected none: the teacher {name} {NEVER_WITHOUT}")
        if config.label_dropout:
            told = f"label_dropout = {config.label_dropout:g}: expected 0"
            raise UserError(f"{told}: of samples without a label or context the teacher {name} knows nothing")
    if source.config.guidance is not None:
        low, high = source.config.guidance
        raise UserError(
            f"{config.teacher or config.init}: a network with a guidance weight of {low:g} to {high:g} as an input; "
            "expected a teacher without"
        )
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
