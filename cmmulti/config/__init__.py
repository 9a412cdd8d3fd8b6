"""What a run is told: sections with their defaults, YAML, ``--set``, and the checks of registered pieces."""

from cmmulti.config.resolve import load_config, profiles, resolve
from cmmulti.config.schema import DataConfig, EMAConfig, OptimizerConfig, PieceConfig, RunConfig
from cmmulti.config.text import read_yaml, to_yaml, with_overrides

__all__ = [
    "DataConfig",
    "EMAConfig",
    "OptimizerConfig",
    "PieceConfig",
    "RunConfig",
    "load_config",
    "profiles",
    "read_yaml",
    "resolve",
    "to_yaml",
    "with_overrides",
]
