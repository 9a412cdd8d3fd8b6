"""A classifier that serves as feature network of training distances: trained on the train part, judged on ``val``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from cmmulti.errors import UserError
from cmmulti.evaluation.classifier import Training, train_classifier
from cmmulti.evaluation.features import ClassifierFeatures
from cmmulti.evaluation.sets import draw
from cmmulti.evaluation.study import FEWEST, REAL_SEED, training_tensors
from cmmulti.modality import DataSource, Modality
from cmmulti.nn.feature_network import ClassifierFile, write_classifier
from cmmulti.report.folder import IGNORED, check_free

MOST_JUDGED = 10_000


def train_feature_network(
    modality: Modality, source: DataSource, out: Path, how: Training, tell: Callable[[str], None]
) -> ClassifierFile:
    """Train on what has a label, and write the folder that ``distance: {name: classifier, path: ...}`` reads.

    Evaluation trains a classifier of its own with another seed, so that no model is judged by the network it was made to
    please.

    Raises:
        UserError: there are too few labels, or ``out`` holds something or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(inner.name not in IGNORED for inner in out.iterdir())):
        raise UserError(f"{out}: exists and is not an empty folder; expected a new one for the classifier")
    check_free(out, overwrite=True)
    train = training_tensors(modality.dataset(source, "train")).labelled
    if len(train) < FEWEST:
        raise UserError(f"data {source.name}: {len(train)} items with a label; a classifier expects {FEWEST} or more")
    classes = int(train.labels.max()) + 1
    tell(f"training a classifier of {classes} classes on {len(train)} examples, {how.steps} steps")
    classifier = train_classifier(train, classes, how)
    part = modality.dataset(source, "val")
    val = draw(part, REAL_SEED, MOST_JUDGED).labelled if len(part) else train[:0]
    named = int((ClassifierFeatures(classifier).predict(val.x) == val.labels).sum()) if len(val) else 0
    about = ClassifierFile(
        shape=tuple(train.x.shape[1:]),
        classes=classes,
        modality={"name": modality.name, **modality.settings.model_dump(mode="json")},
        data={"name": source.name, **source.options},
        training=asdict(how),
        accuracy=named / len(val) if len(val) else None,
        heldout=len(val),
    )
    write_classifier(out, classifier, about)
    return about
