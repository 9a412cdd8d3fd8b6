"""What an evaluation is asked for, and what is refused before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmmulti.errors import UserError
from cmmulti.evaluation.generation import THEIR_OWN, Sampling
from cmmulti.evaluation.words import named_in, pairs
from cmmulti.modality import DataSource, Split
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.processes import is_main
from cmmulti.report.folder import check_free
from cmmulti.samplers.named import followers, sampler_named


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Args:
        pipeline, teacher: loaded models. model: what the first was called. data: the folder that holds the data sets.
        out: the result folder. dataset: a data set's name; None takes the one that the model's card names.
        data_option: ``KEY=VALUE`` lines for it, on top of the training's. split: the held-out part. n: samples per row, or
        most items of a task.
        steps: numbers of steps. seed: of the first sample. how: samplers and guidance.
        task, options: a task instead of free samples.
        tune, tune_n: see :func:`cmmulti.evaluation.tuning.tuned`. card: whether the model's card is to hold the figures.
        search_levels: whether the levels of several steps are searched first; with ``card`` the model keeps them.
        command: as it was typed.
    """

    pipeline: Pipeline
    model: str
    data: Path
    out: Path
    teacher: Pipeline | None = None
    dataset: str | None = None
    data_option: Sequence[str] = ()
    split: Split = "test"
    n: int = 1000
    steps: Sequence[int] = (1, 2, 4)
    seed: int = 0
    how: Sampling = THEIR_OWN
    task: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tune: Sequence[str] = ()
    tune_n: int = 4
    classifier_steps: int = 1500
    overwrite: bool = False
    card: bool = False
    search_levels: bool = False
    command: str = ""

    def source(self) -> DataSource:
        """The data set asked for, or the first one of the model card's head.

        Of the one that the model was trained on the options hold too, where nothing else is asked for: they say which items
        were held out.
        """
        name = self.dataset or named_in(self.pipeline.card)
        if name is None:
            raise UserError(f"dataset: {self.model}'s card names none; expected --dataset NAME")
        trained = self.pipeline.config.data
        own = trained.settings if trained is not None and trained.name == name else {}
        return DataSource(name=name, root=self.data, options={**own, **pairs(self.data_option, "--data-option")})


def check(request: Request) -> None:
    """Refuse what can be seen to be wrong before anything is sampled.

    Raises:
        UserError: no such folder of data, a used ``out``, a sampler or guidance that no model follows.
    """
    if not request.data.is_dir():
        raise UserError(f"{request.data}: expected the folder that holds the data sets")
    _check_sampling(request)
    if request.search_levels and request.task is not None:
        raise UserError("--search-levels: levels are searched for samples; expected no --task beside it")
    if request.tune and request.task is None:
        raise UserError(f"--tune {request.tune[0]!r}: expected --task, whose options are tuned")
    if is_main():
        check_free(request.out, request.overwrite)


def _check_sampling(request: Request) -> None:
    """A sampler or a weight that nothing would follow is refused, and a wrong name before anything is sampled."""
    models, how = [m for m in (request.pipeline, request.teacher) if m is not None], request.how
    if how.sampler is not None:
        found = sampler_named(how.sampler)
        if all(m.model.role not in found.roles for m in models):
            raise UserError(f"--sampler {how.sampler}: for {followers(found)}; expected none: no such model is among these")
    if how.guidance is not None and not any(m.can_be_guided for m in models):
        models[0].check_guidance(how.guidance)
