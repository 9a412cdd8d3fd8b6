"""A whole evaluation of free samples: real sets, classifier, samples of every number of steps, figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmmulti.errors import UserError
from cmmulti.evaluation.classifier import Training, cached_classifier
from cmmulti.evaluation.features import ClassifierFeatures, Features, PrincipalComponents
from cmmulti.evaluation.generation import THEIR_OWN, Figures, SampleSet, Sampling, Yardstick, generate, warm_up
from cmmulti.evaluation.sets import RealSet, draw, needs_round_trip, round_trip
from cmmulti.evaluation.statistics import Estimate, proportion
from cmmulti.modality import DataSource, Modality, Split, TrainingSet
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.processes import is_main

REAL_SEED = 10_000
"""Of the augmentation of real items, apart from that of any training run."""

LARGEST_TRAIN = 50_000
"""Most training items that are read."""
AUGMENTED_TRAIN = 8_000
"""Training tensors drawn for the classifier and the search for copies, where items are augmented."""

FEWEST = 16
"""Least items or samples that figures are made of."""
NAMED = 5
"""Most classes that an error names."""


@dataclass(frozen=True)
class RealData:
    """The two parts of a data set.

    Args:
        train: every draw, in model space. shown, heldout: a first draw of each item, as the items show it.
        unseen: ``heldout`` in model space. through: whether items show something else than model tensors.
        draws: of each item in ``train``.
    """

    train: RealSet
    shown: RealSet
    heldout: RealSet
    unseen: RealSet
    through: bool
    draws: int


@dataclass(frozen=True)
class Study:
    """The outcome: the floor, a row per model and number of steps, and what they were measured with.

    Args:
        classifier_accuracy: on held-out items, as they are and as their items show them; None without labels.
    """

    floor: Figures
    rows: list[Figures]
    samples: list[SampleSet]
    data: RealData
    features: Features
    classifier_accuracy: tuple[Estimate, Estimate] | None
    notes: list[str]


def study(
    models: Sequence[tuple[str, Pipeline, Sequence[int]]],
    source: DataSource,
    split: Split,
    n: int,
    seed: int,
    cache: Path,
    training: Training,
    tell: Callable[[str], None],
    how: Sampling = THEIR_OWN,
) -> Study | None:
    """Figures of every model on ``source``; None on processes other than the first.

    Args:
        models: (name, pipeline, numbers of steps); the first one's modality reads the data. split: the held-out part.
        n: samples per row, and at most as many real items beside them. cache: where classifiers are kept. tell: progress.
        how: samplers and guidance.
    """
    if n < FEWEST:
        raise UserError(f"n: expected at least {FEWEST} samples for figures with a meaning, got {n}")
    modality = models[0][1].modality
    tell("reading real items")
    data = real_data(modality, source, split, n, models[0][1].config.classes)
    sets = []
    for name, pipeline, steps in models:
        warm_up(pipeline, n, min(steps), how)
        for s in steps:
            tell(f"sampling {n} with {name} in {s} step{'s' * (s > 1)}")
            sets.append(generate(name, pipeline, n, s, seed, data.through, how))
    if not is_main():
        return None
    tell("measuring")
    features, accuracy = features_of(modality, source, data, cache, training)
    yardstick = Yardstick(data.shown, data.heldout, data.train.x, data.unseen.x, features, data.draws)
    rows = [s.measured(yardstick) for s in sets]
    return Study(yardstick.floor(), rows, sets, data, features, accuracy, _notes(data, features, n))


def real_data(modality: Modality, source: DataSource, split: Split, n: int, classes: Sequence[str]) -> RealData:
    """Draw both parts. Where items show something else than tensors, ``n`` of the train part go through decoding.

    A model of ``classes`` is compared with items that have a label, as its samples do; copies are looked for among all.
    """
    train_part, heldout_part = modality.dataset(source, "train"), modality.dataset(source, split)
    if len(heldout_part) < FEWEST:
        raise UserError(f"data {source.name}: its {split} part has {len(heldout_part)} items; expected {FEWEST} or more")
    _same_classes(source, train_part.class_names, classes)
    train = training_tensors(train_part)
    taken = min(len(train_part), LARGEST_TRAIN)
    unseen, first = draw(heldout_part, REAL_SEED + 1, n), train[:taken]
    if classes:
        unseen, first = unseen.labelled, first.labelled
    if min(len(unseen), len(first)) < FEWEST:
        which = "a class-conditional model needs labels; expected {} items with one" if classes else "expected {} items"
        raise UserError(f"data {source.name}: {which.format(FEWEST)} in each part, got {len(first)} and {len(unseen)}")
    through = needs_round_trip(modality, train.x)
    if not through:
        return RealData(train, first, unseen, unseen, through, len(train) // taken)
    some = first[:n]
    shown = RealSet(round_trip(modality, some.x, range(REAL_SEED, REAL_SEED + len(some))), some.labels)
    heldout = RealSet(round_trip(modality, unseen.x, range(REAL_SEED, REAL_SEED + len(unseen))), unseen.labels)
    return RealData(train, shown, heldout, unseen, through, len(train) // taken)


def _same_classes(source: DataSource, found: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse data whose classes are not the model's: every figure of classes would be of other ones."""
    numbered = list(classes) == [str(i) for i in range(len(classes))]  # a model may know its classes by number alone
    if classes and found and list(found) != list(classes) and not (numbered and len(found) == len(classes)):
        got, ours = (
            f"{len(names)} classes ({', '.join(names[:NAMED])}{', ...' * (len(names) > NAMED)})"
            for names in (found, classes)
        )
        raise UserError(f"data {source.name}: expected the model's {ours}, got {got}")


def training_tensors(part: TrainingSet) -> RealSet:
    """The train part as classifier and search for copies see it: several draws of each where there are few items.

    Raises:
        UserError: it holds nothing.
    """
    if not len(part):
        raise UserError("data: the train part holds nothing; expected items that are in no other part")
    taken = min(len(part), LARGEST_TRAIN)
    return draw(part, REAL_SEED, taken, max(1, AUGMENTED_TRAIN // taken))


def features_of(
    modality: Modality, source: DataSource, data: RealData, cache: Path, training: Training
) -> tuple[Features, tuple[Estimate, Estimate] | None]:
    """A classifier's features where the data have labels, principal components where not; and its held-out accuracy."""
    known, judged = data.train.labelled, data.heldout.labelled
    if len(known) < FEWEST or not len(judged):
        return PrincipalComponents(data.shown.x), None
    features = classifier_features(modality, source, data.train, cache, training)
    plain, shown = (
        proportion(int((features.predict(part.x) == part.labels).sum()), len(part))
        for part in (data.unseen.labelled, judged)
    )
    return features, (plain, shown)


def label_features(modality: Modality, source: DataSource, cache: Path, training: Training) -> ClassifierFeatures | None:
    """A classifier's features for distances between two items; None where the train part has too few labels for one."""
    part = modality.dataset(source, "train")
    if int((part.labels >= 0).sum()) < FEWEST:
        return None
    return classifier_features(modality, source, training_tensors(part), cache, training)


def classifier_features(
    modality: Modality, source: DataSource, train: RealSet, cache: Path, training: Training
) -> ClassifierFeatures:
    """The features of the classifier of these data and settings, trained on what has a label where it is not kept yet."""
    identity: dict[str, Any] = {
        "dataset": source.name,
        "options": dict(source.options),
        "modality": modality.name,
        "settings": modality.settings.model_dump(mode="json"),
    }
    known = train.labelled
    classes = int(known.labels.max()) + 1
    return ClassifierFeatures(cached_classifier(cache, identity, known, classes, training))


def teacher_steps(pipeline: Pipeline, how: Sampling = THEIR_OWN) -> list[int]:
    """Levels for the teacher's row: as many as cost 35 evaluations, 18 by Heun's method."""
    if pipeline.model.role != "teacher":
        raise UserError(f"teacher: expected a denoising teacher, got a {pipeline.model.role} model")
    return [how.teacher_steps(pipeline)]


def _notes(data: RealData, features: Features, n: int) -> list[str]:
    notes = [
        f"Features: {features.name} (hash {features.hash}); distances compare only within one hash, N and data set.",
        f"{n} samples a row, {len(data.shown)} training items and {len(data.heldout)} held-out items.",
    ]
    if data.through:
        notes.append("Samples and real items alike pass through decoding and encoding before features are taken.")
    return notes
