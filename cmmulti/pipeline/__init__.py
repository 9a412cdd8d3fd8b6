"""The object that users hold, its folder on disk, and what it answers."""

from cmmulti.pipeline.folder import PipelineConfig
from cmmulti.pipeline.outcome import Outcome
from cmmulti.pipeline.pipeline import Pipeline

__all__ = ["Outcome", "Pipeline", "PipelineConfig"]
