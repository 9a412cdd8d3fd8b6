"""Features of model tensors: what distances between sets are taken on."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from cmmulti.distances import feature_distance
from cmmulti.evaluation.classifier import fingerprint
from cmmulti.nn.classifier import FEATURES, Classifier

BATCH = 256


class Features(ABC):
    """(n, C, *spatial) -> (n, d) float64. ``name`` says what they are; figures compare within one ``hash``."""

    name: str
    hash: str

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor: ...


class ClassifierFeatures(Features):
    """The penultimate layer of a classifier trained on real items."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.name = f"penultimate layer of an independent classifier, {FEATURES} values"
        self.hash = fingerprint(classifier)

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.classifier.features(part) for part in x.split(BATCH)]).double()

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """How far each row of ``a`` is from that of ``b`` (n,), over all convolutional layers (LPIPS without weights)."""
        with torch.no_grad():
            parts = zip(a.split(BATCH), b.split(BATCH), strict=True)
            return torch.cat([feature_distance(self.classifier.layers(x), self.classifier.layers(y)) for x, y in parts])

    def predict(self, x: Tensor) -> Tensor:
        """The likeliest label (n,) of each row."""
        with torch.no_grad():
            return torch.cat([self.classifier(part).argmax(1) for part in x.split(BATCH)])


class PrincipalComponents(Features):
    """The leading principal components of real items: for data without labels.

    Args:
        train: (n, C, *spatial) real items. count: components, at most n - 1.
    """

    def __init__(self, train: Tensor, count: int = FEATURES) -> None:
        rows = train.flatten(1).float()
        self.mean = rows.mean(0)
        count = min(count, len(rows) - 1, rows.shape[1])
        # Enough oversampling and iterations that the leading components are settled; the seed fixes the last digits.
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(0)
            rank = min(count + 16, *rows.shape)
            self.basis = torch.svd_lowrank(rows - self.mean, q=rank, niter=4)[2][:, :count]
        self.name = f"{count} principal components of the train part"
        self.hash = hashlib.sha256(self.basis.numpy().round(6).tobytes()).hexdigest()[:16]

    def __call__(self, x: Tensor) -> Tensor:
        return ((x.flatten(1).float() - self.mean) @ self.basis).double()
