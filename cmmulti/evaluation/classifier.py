"""A classifier that judges samples: trained on real items alone, apart from any generative model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from cmmulti.errors import UserError
from cmmulti.evaluation.sets import RealSet
from cmmulti.files import replacing
from cmmulti.nn.classifier import Classifier
from cmmulti.randomness import key
from cmmulti.weights import read_weights, shapes_of


@dataclass(frozen=True)
class Training:
    """How a classifier is trained; part of the name under which it is kept."""

    steps: int = 1500
    batch: int = 64
    learning_rate: float = 2e-3
    noise: float = 0.1
    seed: int = 20_000


def train_classifier(data: RealSet, classes: int, how: Training) -> Classifier:
    """Cross-entropy with AdamW and a one-cycle rate on ``data``; the same data and settings give the same weights.

    Noise of ``how.noise`` standard deviations is added to every input, so that a decision rests on no single value.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(key(how.seed, "classifier"))
        model = Classifier(tuple(data.x.shape[1:]), classes)
        model.mean.copy_(data.x.mean())
        model.std.copy_(data.x.std().clamp_min(1e-6))
        optimizer = torch.optim.AdamW(model.parameters(), how.learning_rate, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, how.learning_rate, total_steps=max(how.steps, 2))
        noise = how.noise * float(model.std)
        model.train()
        for _ in range(how.steps):
            chosen = torch.randint(len(data), (min(how.batch, len(data)),))
            x = data.x[chosen]
            loss = F.cross_entropy(model(x + noise * torch.randn_like(x)), data.labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval().requires_grad_(False)


def cached_classifier(folder: Path, identity: dict[str, Any], data: RealSet, classes: int, how: Training) -> Classifier:
    """The classifier of ``identity`` (data set, modality settings) and of these very data from ``folder``; trained and kept
    there if new.
    """
    full = {**identity, **vars(how), "shape": list(data.x.shape[1:]), "classes": classes, "data": _digest(data)}
    name = hashlib.sha256(json.dumps(full, sort_keys=True, default=str).encode()).hexdigest()[:12]
    path = folder / f"classifier-{identity['dataset']}-{name}.safetensors"
    if path.is_file():
        return _read(path, tuple(data.x.shape[1:]), classes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of two processes one trains and the other waits, to have the same
            if path.is_file():
                return _read(path, tuple(data.x.shape[1:]), classes)
            model = train_classifier(data, classes, how)
            with replacing(path) as part:
                part.write_bytes(save(model.state_dict()))
    except OSError as error:
        raise UserError(f"{path}: cannot write the classifier ({error.strerror or error})") from error
    return model


def _digest(data: RealSet) -> str:
    """Two folders may share a name, a size and classes, and files of one may be replaced."""
    digest = hashlib.sha256(data.labels.contiguous().numpy().tobytes())
    digest.update(data.x.contiguous().numpy().data)
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, ...], classes: int) -> Classifier:
    model = Classifier(shape, classes)
    try:
        model.load_state_dict(read_weights(path, shapes_of(model)))
    except UserError as error:
        raise UserError(f"{error}; remove it to train it anew") from error
    return model.eval().requires_grad_(False)


def fingerprint(model: nn.Module) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the weights: two figures compare only where these agree."""
    return hashlib.sha256(save({k: v.contiguous() for k, v in model.state_dict().items()})).hexdigest()[:16]
