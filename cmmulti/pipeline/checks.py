"""What a ``config.json`` can say in good form and still not mean, edited by hand or put together beside another model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.noise import check_levels
from cmmulti.pipeline.config import PipelineConfig, build_form, build_network
from cmmulti.samplers.named import sampler_for
from cmmulti.weights import shapes_of


def check_config(config: PipelineConfig) -> None:
    """Refuse a config whose parameterizations, sampler or noise levels are none that its model can have.

    Raises:
        UserError: naming the key, its value and what was expected.
    """
    build_form(config.parameterization, config.sigma_max)
    for i, part in enumerate(config.lower):
        try:
            build_form(part.parameterization, part.sigma_high)
        except UserError as error:
            raise UserError(f"lower.{i}: {error}") from error
    if config.sampler is not None:
        sampler_for(config.role, config.sampler)
    for steps, levels in config.levels.items():
        if steps < 1:
            raise UserError(f"levels.{steps}: expected a number of steps of at least 1")
        try:
            check_levels(levels, config.sigma_max)
        except UserError as error:
            raise UserError(f"levels.{steps}: {str(error).removeprefix('levels: ')}") from error
        if len(levels) != steps:
            raise UserError(f"levels.{steps}: expected {steps} noise levels, one for each step, got {len(levels)}")


def check_describes(config: PipelineConfig, model: Model, networks: Sequence[nn.Module]) -> None:
    """Refuse to save a model under a config that does not describe it: it would be read as another, or not at all.

    Args:
        networks: of the model, in the order of :attr:`PipelineConfig.files`.

    Raises:
        UserError: naming the key of the config, its value and the model's.
    """
    if config.role != model.role:
        raise UserError(f"role: {config.role}; the model to save is a {model.role} model")
    if config.sigma_max != model.sigma_max:
        raise UserError(f"sigma_max: {config.sigma_max:g}; the model to save has {model.sigma_max:g}")
    form = build_form(config.parameterization, config.sigma_max)
    if form != model.parameterization:
        raise UserError(f"parameterization: {form}; the model to save has {model.parameterization}")
    if len(networks) != len(config.files):
        raise UserError(f"lower: {len(config.lower)} networks; the model to save has {len(networks) - 1}")
    for piece, network in zip(config.files.values(), networks, strict=True):
        with torch.device("meta"):  # shapes without memory
            told = shapes_of(build_network(piece))
        found = shapes_of(network)
        for name in sorted(told.keys() | found.keys()):
            if told.get(name) != found.get(name):
                here = f"{name} is {told.get(name, 'missing')}"
                raise UserError(f"network {piece.name}: {here}; in the model to save it is {found.get(name, 'missing')}")
