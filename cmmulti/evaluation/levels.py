"""Noise levels of few steps, searched for one model (Song et al. 2023, arXiv 2303.01469, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cmmulti.errors import UserError
from cmmulti.evaluation.classifier import Training
from cmmulti.evaluation.generation import THEIR_OWN, Sampling, sampled
from cmmulti.evaluation.statistics import frechet_distance
from cmmulti.evaluation.study import FEWEST, features_of, real_data
from cmmulti.modality import DataSource
from cmmulti.noise import karras
from cmmulti.pipeline import Pipeline
from cmmulti.samplers.search import search_levels

CANDIDATES = 40
"""Levels of the Karras grid that are searched, as many as the paper's."""


def with_searched_levels(
    pipeline: Pipeline,
    source: DataSource,
    steps: int,
    n: int,
    seed: int,
    cache: Path,
    training: Training,
    tell: Callable[[str], None],
    how: Sampling = THEIR_OWN,
) -> Pipeline:
    """The same model with the levels of 2 to ``steps`` steps whose samples are nearest to the training set.

    The quality of a list is the Fréchet distance between ``n`` samples from seeds ``seed ..`` and training items, on the
    features that figures are measured with; nothing held out is looked at. Figures must come from other seeds.

    Raises:
        UserError: a teacher, whose ODE solver has levels of its own; or fewer than two steps.
    """
    if pipeline.model.role == "teacher":
        raise UserError("search-levels: a denoising teacher walks its ODE; expected a consistency model")
    if steps < 2:
        raise UserError(f"search-levels: expected 2 or more among the steps, got {steps}")
    if n < FEWEST:
        raise UserError(f"n: expected at least {FEWEST} samples for figures with a meaning, got {n}")
    data = real_data(pipeline.modality, source, "val", n, pipeline.config.classes)
    features, _ = features_of(pipeline.modality, source, data, cache, training)
    real = features(data.shown.x)

    def quality(levels: list[float]) -> float:
        samples = sampled("model", pipeline, n, levels, seed, data.through, how)
        distance = frechet_distance(real, features(samples.shown))
        tell(f"levels {', '.join(f'{level:.3g}' for level in levels)}: Fréchet distance {distance:.4g}")
        return distance

    found = search_levels(quality, steps, karras(CANDIDATES, sigma_max=pipeline.model.sigma_max))
    highest = pipeline.model.sigma_max  # which digits are not to be rounded beyond
    levels = {len(each): [min(float(f"{v:.4g}"), highest) for v in each] for each in found.levels if len(each) > 1}
    config = pipeline.config.model_copy(update={"levels": {**pipeline.config.levels, **levels}})
    return Pipeline(pipeline.model, pipeline.modality, config, pipeline.card)
