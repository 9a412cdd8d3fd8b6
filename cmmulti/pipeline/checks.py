"""What a ``config.json`` can say in good form and still not mean: it may have been edited by hand."""

from __future__ import annotations

from cmmulti.errors import UserError
from cmmulti.noise import check_levels
from cmmulti.pipeline.config import PipelineConfig, build_form
from cmmulti.samplers.named import sampler_for


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
