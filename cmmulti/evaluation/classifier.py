"""A classifier that judges samples: trained on real items alone, apart from any generative model."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from cmmulti.errors import UserError
from cmmulti.evaluation.sets import RealSet
from cmmulti.files import replacing
from cmmulti.nn.unet import CONV
from cmmulti.randomness import key

NORM: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
FEATURES = 32
"""Width of the penultimate layer: small, so that a few hundred items describe a Gaussian on it."""

LARGEST, SMALLEST = 32, 4
"""A first layer brings longer axes down to ``LARGEST`` at once, where a CPU is quick; stages halve them to ``SMALLEST``."""


class Classifier(nn.Module):
    """A small convolutional network for one, two or three spatial dimensions.

    Args:
        shape: (C, *spatial). classes: number of labels. width: channels of the first stage, doubled up to four times it.

    Stages halve the axes; the last activations are averaged and maximised over space, and a layer of ``FEATURES``
    comes before the scores.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, width: int = 32) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        dims, longest, channels = len(shape) - 1, max(shape[1:]), shape[0]
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        stages: list[nn.Module] = []
        if longest > LARGEST:
            stride = 2 ** math.ceil(math.log2(longest / LARGEST))
            stages += [CONV[dims](channels, width, 2 * stride - 1, stride=stride, padding=stride - 1)]
            stages += [NORM[dims](width), nn.ReLU()]
            channels, longest = width, -(-longest // stride)
        stage = 0
        while longest > SMALLEST or stage < 2:
            out = width * min(2**stage, 4)
            stride = 2 if longest > SMALLEST else 1
            stages += [CONV[dims](channels, out, 3, stride=stride, padding=1), NORM[dims](out), nn.ReLU()]
            stages += [CONV[dims](out, out, 3, padding=1), NORM[dims](out), nn.ReLU()]
            channels, longest, stage = out, -(-longest // stride), stage + 1
        self.stages = nn.Sequential(*stages)
        self.penultimate = nn.Linear(2 * channels, FEATURES)
        self.scores = nn.Linear(FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) -> (B, FEATURES), before the activation."""
        h = self.stages((x - self.mean) / self.std).flatten(2)
        return cast(Tensor, self.penultimate(torch.cat([h.mean(2), h.amax(2)], 1)))

    def layers(self, x: Tensor) -> list[Tensor]:
        """The activations (B, channels, *spatial) after every rectifier, finest first."""
        h, found = (x - self.mean) / self.std, []
        for stage in self.stages:
            h = stage(h)
            if isinstance(stage, nn.ReLU):
                found.append(h)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, classes)."""
        return cast(Tensor, self.scores(F.dropout(F.relu(self.features(x)), 0.2, self.training)))


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
    """The classifier of ``identity`` (data set, modality settings) from ``folder``; trained and kept there if new."""
    full = {**identity, **vars(how), "shape": list(data.x.shape[1:]), "n": len(data), "classes": classes}
    name = hashlib.sha256(json.dumps(full, sort_keys=True, default=str).encode()).hexdigest()[:12]
    path = folder / f"classifier-{identity['dataset']}-{name}.safetensors"
    if path.is_file():
        return _read(path, tuple(data.x.shape[1:]), classes)
    model = train_classifier(data, classes, how)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(save(model.state_dict()))
    except OSError as error:
        raise UserError(f"{path}: cannot write the classifier ({error.strerror or error})") from error
    return model


def _read(path: Path, shape: tuple[int, ...], classes: int) -> Classifier:
    model = Classifier(shape, classes)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path}: not a classifier of these data; remove it to train it anew ({error})") from error
    return model.eval().requires_grad_(False)


def fingerprint(model: nn.Module) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the weights: two figures compare only where these agree."""
    return hashlib.sha256(save({k: v.contiguous() for k, v in model.state_dict().items()})).hexdigest()[:16]
