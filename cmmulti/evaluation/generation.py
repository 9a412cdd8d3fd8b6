"""How good free samples are: label accuracy, Fréchet distance, precision and recall, and signs of memorised items."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.evaluation.features import ClassifierFeatures, Features
from cmmulti.evaluation.neighbours import memorisation, precision_recall
from cmmulti.evaluation.sets import RealSet, clamped, round_trip
from cmmulti.evaluation.statistics import Estimate, bootstrap, frechet_distance, proportion
from cmmulti.pipeline import Pipeline
from cmmulti.samplers.named import sampler_named
from cmmulti.samplers.ode import Heun

TEACHER_STEPS = 18
"""Levels of Heun's method that cost 35 evaluations, as published figures of teachers do."""

WARM = 64
"""Most samples that are made before the clock runs."""


@dataclass(frozen=True)
class Sampling:
    """How samples are made where that is not left to the models.

    ``sampler``: of the models that it can follow. ``guidance``: weight of classifier-free guidance, where a model can be
    guided.
    """

    sampler: str | None = None
    guidance: float | None = None

    def of(self, pipeline: Pipeline) -> Sampling:
        """The part of it that applies to one model: a sampler of its role, guidance where the model can be guided."""
        follows = self.sampler is not None and pipeline.model.role in sampler_named(self.sampler).roles
        return Sampling(self.sampler if follows else None, self.guidance if pipeline.can_be_guided else None)

    def teacher_steps(self, pipeline: Pipeline) -> int:
        """Levels that cost a teacher 35 evaluations, guidance not counted: 18 of Heun's method, 35 of the others."""
        own = pipeline.sampler(self.of(pipeline).sampler)
        return TEACHER_STEPS if isinstance(own, Heun) else 2 * TEACHER_STEPS - 1

    def named(self, name: str) -> str:
        """``name`` of a row with the sampler and the weight added."""
        told = [name, *([self.sampler] if self.sampler else [])]
        return ", ".join(told if self.guidance is None else [*told, f"guidance {self.guidance:g}"])


THEIR_OWN = Sampling()


@dataclass(frozen=True)
class Figures:
    """A set of items or samples against the training set.

    ``frechet`` is taken on all ``n`` of them, with a bootstrap interval; ``frechet_matched``, ``precision`` and ``recall``
    on as many as the held-out set has, averaged over disjoint parts, so that they stand beside the floor's on equal terms.
    ``accuracy`` is None where there are no labels to ask for.

    Args:
        name: of the row. n: of the set. matched: rows of each part.
        nearer, copied, suspects, closest: as in :class:`~cmmulti.evaluation.neighbours.Memorisation`, and ``distance``, its
            median; empty where copies are not looked for.
        steps, nfe, seconds: noise levels visited, evaluations per sample and time of all samples; None for real items.
    """

    name: str
    n: int
    matched: int
    frechet: Estimate
    frechet_matched: float
    precision: float
    recall: float
    accuracy: Estimate | None = None
    nearer: float | None = None
    copied: float | None = None
    distance: float | None = None
    steps: int | None = None
    nfe: int | None = None
    seconds: float | None = None
    suspects: tuple[int, ...] = ()
    closest: tuple[tuple[int, int], ...] = ()

    def row(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


class Yardstick:
    """What samples are measured against, made once per data set.

    Args:
        train, heldout: real items as the features see them (through decoding and encoding where items need it).
        copies: training tensors in which memorised samples are looked for. unseen: held-out tensors to compare their
            distances with, as the model would make them. features: of all sets. draws: of each item among ``copies``.
    """

    def __init__(
        self, train: RealSet, heldout: RealSet, copies: Tensor, unseen: Tensor, features: Features, draws: int = 1
    ) -> None:
        self.train, self.heldout, self.copies, self.unseen, self.features = train, heldout, copies, unseen, features
        self.draws = draws
        self._real = features(train.x)

    @property
    def matched(self) -> int:
        return min(len(self.heldout), len(self.train))

    def floor(self) -> Figures:
        """The held-out items' own figures: those of new items, which a model that repeats the train part can undercut."""
        return self.measure(
            "held-out items", self.heldout.x, self.heldout.labels if bool((self.heldout.labels >= 0).all()) else None
        )

    def measure(
        self,
        name: str,
        x: Tensor,
        labels: Tensor | None,
        model_space: Tensor | None = None,
        in_turn: bool = False,
        **cost: Any,
    ) -> Figures:
        """Figures of one set.

        Args:
            x: (n, C, *spatial) as the features are to see it. labels: (n,) what was asked for, or None.
            model_space: the tensors as the model made them, where copies of training tensors are to be looked for.
            in_turn: whether the numbers per label were chosen, as those of samples are; those of real items were drawn.
        """
        features, real = self.features(x), self._real
        if not bool(features.isfinite().all()):
            raise UserError(f"{name}: samples that are not finite, or too large to be measured; its training has diverged")
        accuracy = None
        if labels is not None and isinstance(self.features, ClassifierFeatures):
            accuracy = proportion(int((self.features.predict(x) == labels).sum()), len(labels))
        parts = _equal_parts(features, self.matched)
        reference = real[: self.matched]
        shares = [precision_recall(reference, part) for part in parts]
        memory = None
        if model_space is not None:
            memory = memorisation(model_space, self.copies, self.unseen, draws=self.draws)
        return Figures(
            name=name,
            n=len(x),
            matched=len(parts[0]),
            frechet=bootstrap(lambda f: frechet_distance(real, f), features, labels if in_turn else None),
            frechet_matched=_mean([frechet_distance(real, part) for part in parts]),
            precision=_mean([s.precision for s in shares]),
            recall=_mean([s.recall for s in shares]),
            accuracy=accuracy,
            nearer=None if memory is None else memory.nearer,
            copied=None if memory is None else memory.copied,
            distance=None if memory is None else memory.median,
            suspects=() if memory is None else tuple(memory.suspects[:10]),
            closest=() if memory is None else tuple(memory.closest),
            **cost,
        )


@dataclass(frozen=True)
class SampleSet:
    """Samples of one model in one number of steps.

    Args:
        x: as the model made them, inside the valid range. shown: as their items show them. labels: what was asked for.
        seconds: of generation, decoding excluded.
    """

    name: str
    x: Tensor
    shown: Tensor
    labels: Tensor | None
    seeds: Sequence[int]
    steps: int
    nfe: int
    seconds: float

    def measured(self, yardstick: Yardstick) -> Figures:
        return yardstick.measure(
            self.name,
            self.shown,
            self.labels,
            self.x,
            in_turn=True,
            steps=self.steps,
            nfe=self.nfe,
            seconds=self.seconds,
        )


def warm_up(pipeline: Pipeline, n: int, steps: int, how: Sampling = THEIR_OWN) -> None:
    """One batch of at most ``n`` that nobody times: what a first call sets up is no row's time."""
    own = how.of(pipeline)
    pipeline.generate(list(range(min(n, WARM))), pipeline.levels(steps), sampler=own.sampler, guidance=own.guidance)


def generate(
    name: str, pipeline: Pipeline, n: int, steps: int, seed: int, through: bool, how: Sampling = THEIR_OWN
) -> SampleSet:
    """:func:`sampled` at the model's own levels of ``steps`` steps."""
    return sampled(name, pipeline, n, pipeline.levels(steps), seed, through, how)


def sampled(
    name: str,
    pipeline: Pipeline,
    n: int,
    levels: Sequence[float],
    seed: int,
    through: bool,
    how: Sampling = THEIR_OWN,
) -> SampleSet:
    """``n`` samples from seeds ``seed .. seed + n - 1``, every class in turn where the model knows classes.

    ``through``: items show something else than the tensors, so that features see ``encode(decode(x))``. Where several
    processes run, all of them take part and all get the same samples.
    """
    seeds, classes = list(range(seed, seed + n)), len(pipeline.config.classes)
    labels: list[int | None] | None = [i % classes for i in range(n)] if classes else None
    own = how.of(pipeline)
    began = time.perf_counter()
    made = pipeline.generate(seeds, levels, labels, own.sampler, guidance=own.guidance)
    x = clamped(pipeline.modality, made.x.float().cpu())
    seconds = time.perf_counter() - began
    shown = round_trip(pipeline.modality, x, seeds) if through else x
    asked = None if labels is None else torch.tensor(labels, dtype=torch.int64)
    return SampleSet(own.named(name), x, shown, asked, seeds, len(levels), made.nfe, seconds)


def _equal_parts(x: Tensor, size: int) -> list[Tensor]:
    """As many disjoint parts of ``size`` rows as there are; all of ``x`` where it has fewer."""
    if len(x) <= size:
        return [x]
    return [x[i : i + size] for i in range(0, len(x) - size + 1, size)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
