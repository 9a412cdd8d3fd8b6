"""What a ``config.json`` can say in good form and still not mean: it may have been edited by hand."""

from __future__ import annotations

from cmmulti.errors import UserError
from cmmulti.pipeline.config import PipelineConfig, build_form


def check_config(config: PipelineConfig) -> None:
    """Refuse a config whose parameterizations have settings that they cannot have.

    Raises:
        UserError: naming the key, its value and what was expected.
    """
    build_form(config.parameterization, config.sigma_max)
    for i, part in enumerate(config.lower):
        try:
            build_form(part.parameterization, part.sigma_high)
        except UserError as error:
            raise UserError(f"lower.{i}: {error}") from error
