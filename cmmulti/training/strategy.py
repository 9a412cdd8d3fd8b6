"""How a run is spread over devices; combinations that do not work are refused by name."""

from __future__ import annotations

from pytorch_lightning.strategies import DDPStrategy, Strategy

from cmmulti.config import RunConfig
from cmmulti.errors import UserError


def strategy_of(config: RunConfig) -> Strategy | str:
    """Lightning's strategy for a resolved config.

    Raises:
        UserError: naming the keys that do not go together.
    """
    settings = config.trainer
    if settings.strategy == "fsdp":
        raise UserError("trainer.strategy = 'fsdp': not offered for this method; expected 'auto' or 'ddp'")
    if settings.strategy == "ddp" or config.processes > 1:
        return DDPStrategy(gradient_as_bucket_view=True)
    return "auto"
