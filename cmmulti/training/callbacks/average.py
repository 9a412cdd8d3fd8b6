"""A model of its own that holds one of the run's averages, for whatever looks at the run from outside."""

from __future__ import annotations

import torch

from cmmulti.model import Model
from cmmulti.pipeline.folder import PipelineConfig
from cmmulti.ranged import joined
from cmmulti.training.export import load_average
from cmmulti.training.module import TrainingModule


class Average:
    """Made when it is first asked for, and filled anew each time."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self._model: Model | None = None

    def of(self, module: TrainingModule, profile: str | None = None) -> Model:
        """The average called ``profile``, or the one that will be exported, beside the method's other networks where it has
        several. All processes of a sharded run call this."""
        if self._model is None:
            with torch.random.fork_rng(devices=[]):
                self._model = self.config.build_model().to(module.device).eval()
        load_average(module, self._model, profile or module.config.ema.export or "raw")
        return joined(module.method.exported(self._model)).eval()
