"""How a run is spread over devices; combinations that do not work are refused by name."""

from __future__ import annotations

from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from cmmulti import registry
from cmmulti.config import RunConfig
from cmmulti.errors import UserError


def strategy_of(config: RunConfig) -> Strategy | str:
    """Lightning's strategy for a resolved config.

    Raises:
        UserError: naming the keys that do not go together.
    """
    settings = config.trainer
    if settings.strategy == "fsdp":
        _check_fsdp(config)
        return ModelParallelStrategy(data_parallel_size=config.processes, tensor_parallel_size=1)
    if settings.strategy == "ddp" or config.processes > 1:
        return DDPStrategy(gradient_as_bucket_view=True)
    return "auto"


def _check_fsdp(config: RunConfig) -> None:
    """FSDP shards what is trained: methods with copies of the student, and options that need it whole, are refused."""
    settings = config.trainer
    if not registry.load("methods", config.method.name).shards:
        raise UserError(
            f"trainer.strategy = 'fsdp' with method.name = {config.method.name!r}: this method keeps whole copies of the "
            "network; expected strategy 'ddp'"
        )
    if settings.compile:
        raise UserError(
            "trainer.strategy = 'fsdp' with trainer.compile = true: not offered; expected compile false, or 'ddp'"
        )
    if settings.channels_last:
        raise UserError(
            "trainer.strategy = 'fsdp' with trainer.channels_last = true: not offered; expected false, or strategy 'ddp'"
        )
    if settings.precision != "32-true":
        raise UserError(
            f"trainer.strategy = 'fsdp' with trainer.precision = {settings.precision!r}: not offered; "
            "expected '32-true', or 'ddp'"
        )
