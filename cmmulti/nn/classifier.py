"""A small classifier of model tensors, whose inner layers are features of them."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmmulti.nn.unet import CONV

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
