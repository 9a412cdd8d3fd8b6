"""The model card, written from the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from cmmulti.config import RunConfig
from cmmulti.contexts import ContextScale
from cmmulti.methods.base import Method
from cmmulti.modality import Modality
from cmmulti.model import Model
from cmmulti.pipeline.folder import parameters
from cmmulti.ranged import Ranged
from cmmulti.registry import load
from cmmulti.training.folder import RunRecord
from cmmulti.training.origins import Origin

WORDS = {"init": "started from", "teacher": "taught by"}


def model_card(
    config: RunConfig,
    record: RunRecord,
    modality: Modality,
    model: Model,
    step: int,
    profile: str,
    name: str,
    seconds: float = 0.0,
    joint: Sequence[str] = (),
) -> str:
    """Markdown with a YAML head: what the model is, what it was trained on and by whose leave, how, and what it is not for.

    Args:
        config: resolved, of the modality that the card is about. step: optimiser steps done. profile: the average exported.
        name: of the model. seconds: of training; 0 where that is not known.
        joint: names of other modalities that the same network has learned.
    """
    kind = load("methods", config.method.name)
    paper = getattr(kind, "paper", "")
    steps = min(kind(kind.Settings(**config.method.settings)).sampling_levels(config.sigma_max), default=None)
    steps = steps or (18 if model.role == "teacher" else 2)
    what = {"teacher": "a denoising teacher", "consistency": "a consistency model", "two-time": "a two-time model"}
    seen = step * config.data.batch_size // (1 + len(joint))
    rows = {
        "modality": config.modality.name,
        **modality.specification(),
        "data": f"{config.data.name}, train split" + (f", {record.examples} examples" if record.examples else ""),
        **({"learned together with": ", ".join(joint)} if joint else {}),
        "classes": ", ".join(record.classes) or "none",
        **({"context": told_of(record.context)} if record.context else {}),
        "method": f"{config.method.name} ({paper})" + _settings(kind, config),
        **{WORDS[key]: _told(origin) for key, origin in record.origins.items()},
        "network": f"{config.network.name}, {parameters(model)} parameters{_ranges(model)}",
        "steps": f"{step} of {config.trainer.max_steps}, {seen} examples in batches of {config.data.batch_size}",
        "weights": f"average {profile}" if profile != "raw" else "raw, no average",
        "sigma_data, sigma_max": f"{config.sigma_data:g}, {config.sigma_max:g}",
        "seed": config.trainer.seed,
        "device": record.device or "unknown",
        "time": f"{seconds / 60:.1f} minutes" if seconds else "unknown",
        "command": f"`{record.command}`" if record.command else "unknown",
        "cmmulti": record.version or "unknown",
    }
    table = "\n".join(f"| {k} | {str(v).replace('|', '/')} |" for k, v in rows.items())
    return (
        f"---\n{yaml.safe_dump(_head(config, record, model), sort_keys=False)}---\n# {name}\n\n"
        f"This is {what[model.role]} for {config.modality.name}, trained by `cmmulti train`.\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n"
        f"Use: `cmmulti sample FOLDER --n 16 --steps {steps} --seed 0 --out DIR`.\n\n"
        "Held-out figures: not measured yet; `cmmulti evaluate` makes them.\n\n"
        f"{_licence(config.data.name, record)}\n\n"
        "Research use. Not a medical device, and not a source of evidence about any person.\n"
    )


def _head(config: RunConfig, record: RunRecord, model: Model) -> dict[str, Any]:
    """Fields of Hugging Face's cards; a licence that nobody stated is ``other`` there."""
    return {
        "library_name": "cmmulti",
        "license": record.licence.lower() or "other",
        "datasets": [config.data.name],
        "tags": [
            "consistency-models" if model.role != "teacher" else "diffusion",
            config.modality.name,
            config.method.name,
        ],
    }


def told_of(scale: ContextScale) -> str:
    """What contexts a model takes: columns with means and deviations of its training part, or the shape of arrays."""
    if not scale.names:
        return scale.described
    figures = zip(scale.names, scale.mean, scale.deviation, strict=True)
    return ", ".join(f"{name} ({mean:g} +- {deviation:g} in training)" for name, mean, deviation in figures)


def _settings(kind: type[Method], config: RunConfig) -> str:
    """The method's settings that are not its defaults."""
    plain = kind.Settings().model_dump(mode="json")
    others = {k: v for k, v in config.method.settings.items() if plain.get(k) != v}
    return "".join(f", {k} {v}" for k, v in others.items())


def _told(origin: Origin) -> str:
    """A model that this one is made from, so that its terms are looked at too."""
    licence = f"licence: {origin.licence}" if origin.licence else "its card states no licence"
    return f"`{origin.name}` ({licence})"


def _ranges(model: Model) -> str:
    """Which noise levels each of several networks serves."""
    if not isinstance(model, Ranged):
        return ""
    ends = ", ".join(f"up to sigma = {limit:g}" for limit in model.limits)
    return f" in {len(model.limits) + 1} networks: {ends}, and above"


def _licence(data: str, record: RunRecord) -> str:
    """Whose data the weights derive from, and on which terms."""
    if not record.licence:
        return f"Licence: for the publisher to fill in. The weights derive from the data set {data}, which states none."
    return f"Licence: {record.licence}, that of the data: {record.attribution}."
