"""Cheap figures of quality on held-out items, at fixed noise and seeds: a loss alone misleads where its target moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from cmmulti.conditioning import NULL_LABEL, Condition
from cmmulti.errors import UserError
from cmmulti.model import Model, evaluating, expand
from cmmulti.noise import karras
from cmmulti.randomness import SampleRandomness, key
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.ode import Euler
from cmmulti.training.callbacks.log_file import EDGES, RANGES
from cmmulti.training.data import Examples

LEVELS = (0.05, *(math.sqrt(a * b) for a, b in pairwise(EDGES)), 20.0)
"""The noise level that stands for each bin of the log."""
TEACHER_STEPS, TEACHER_SAMPLES = 8, 16
"""A denoiser's single estimate is a mean, not a sample: it walks this many Euler steps, for fewer samples."""
ROUGHEST = 0.9
"""Data rougher than this are too near to noise for samples to be told from noise by their roughness."""


class HeldOut(NamedTuple):
    """Clean items ``x`` (n, C, *spatial) in model space, their ``label`` (n,), noise (n, C, *spatial) for each, and their
    ``context`` (n, tokens, width) where they have any; ``guidance``, the weight for a network that takes one."""

    x: Tensor
    label: Tensor
    noise: Tensor
    context: Tensor | None = None
    guidance: float | None = None

    def condition(self, conditional: bool, device: torch.device) -> Condition:
        """What a network is told of them: contexts, and labels if it knows classes (``conditional``)."""
        known = conditional and bool((self.label != NULL_LABEL).any())
        weight = None if self.guidance is None else torch.full((len(self.x),), self.guidance)
        return Condition(self.label if known else None, self.context, weight).to(device)


def held_out(examples: Examples, n: int) -> HeldOut:
    """``n`` items evenly spread over a split, as training meets them: one fixed draw of its augmentation.

    Raises:
        UserError: an item cannot be read, or the split holds nothing.
    """
    n = min(n, len(examples))
    if n == 0:
        raise UserError("the validation split holds nothing")
    chosen = [i * len(examples) // n for i in range(n)]
    drawn = [torch.Generator().manual_seed(key("validation", i)) for i in chosen]
    x = torch.stack([examples.tensor(i, g) for i, g in zip(chosen, drawn, strict=True)])
    noise = SampleRandomness(chosen, "validation").normal(x.shape)
    contexts = None if examples.contexts is None else examples.contexts[chosen]
    return HeldOut(x, examples.source.labels[torch.tensor(chosen)], noise, contexts)


def errors(model: Model, items: HeldOut, conditional: bool, sigma_data: float, low: float, high: float) -> dict[str, float]:
    """``error_LOW_HIGH`` by range of the noise level: ``(s^2 + sd^2) / (s sd)^2 mean |f(x0 + s z, s) - x0|^2``.

    1 is a network that answers 0, whose estimate knows nothing but sigma_data (EDM's weight, arXiv 2206.00364, eq. 8); the
    squared error of samples of the posterior is twice that of its mean. Every item is seen at one level, those in
    [``low``, ``high``] taking turns. Infinite where an estimate is not finite.
    """
    ranges = [(name, level) for name, level in zip(RANGES, LEVELS, strict=True) if low <= level <= high]
    place = torch.arange(len(items.x)) % max(len(ranges), 1)
    sigma = torch.tensor([level for _, level in ranges] or [high])[place]
    device = model.device
    x0, told = items.x.to(device), sigma.to(device)
    with torch.no_grad(), evaluating(model):
        noisy = torch.addcmul(x0, expand(told, x0), items.noise.to(device))
        estimate = model.endpoint(noisy, told, items.condition(conditional, device))
        apart = (estimate - x0).square().flatten(1).mean(1).cpu().double()
    weighted = apart * (sigma.double() ** 2 + sigma_data**2) / (sigma.double() * sigma_data) ** 2
    found = {f"error_{name}": weighted[place == i] for i, (name, _) in enumerate(ranges)}
    means = {name: float(values.mean()) for name, values in found.items() if len(values)}
    return {name: value if math.isfinite(value) else math.inf for name, value in means.items()}


def mean_of(found: dict[str, float]) -> float:
    """The mean over ranges; nan where there is none."""
    return sum(found.values()) / len(found) if found else math.nan


def generated(model: Model, items: HeldOut, conditional: bool, levels: Sequence[float] | None) -> dict[str, float]:
    """How samples of the held-out items' shape and classes compare with these items.

    ``spread``: standard deviation between samples of a class, over that between items: 0 is a single sample.
    ``noise``: 0 where neighbouring elements differ as much as in the items, 1 as much as in white noise, below 0 where they
    are smoother. ``distance``: energy distance over the mean distance of two items: 0 is one law. A figure is nan where
    the items do not allow it, infinite where samples are not finite.

    Args:
        levels: the method's own for few steps, or None: one step, or some Euler steps of a denoiser.
    """
    teacher = model.role == "teacher"
    few = teacher and levels is None
    walked = levels or (karras(TEACHER_STEPS, sigma_max=model.sigma_max) if teacher else [model.sigma_max])
    n = min(TEACHER_SAMPLES, len(items.x)) if few else len(items.x)
    chosen = [i * len(items.x) // n for i in range(n)]
    label = items.label[torch.tensor(chosen)]
    start, told = (n, *items.x.shape[1:]), items.condition(conditional, model.device)[torch.tensor(chosen)]
    sampler = Euler() if teacher else Multistep()
    x = sampler.sample(model, start, walked, SampleRandomness(range(n), "validation"), told).x.float().cpu()
    if not bool(x.isfinite().all()):
        return dict.fromkeys(("spread", "noise", "distance"), math.inf)
    real = items.x.float()
    # Of unlabelled items, or a network that knows no classes, all are one class.
    groups = (label, items.label) if conditional else (torch.zeros_like(label), torch.zeros_like(items.label))
    floor = roughness(real)
    return {
        "spread": within(x, groups[0]) / (within(real, groups[1]) or math.nan),
        "noise": (roughness(x) - floor) / (1 - floor) if floor < ROUGHEST else math.nan,
        "distance": energy_distance(x, real),
    }


def within(x: Tensor, label: Tensor) -> float:
    """Root of the mean variance of an element among the samples of its class; nan where no class has two."""
    squares, free = 0.0, 0
    for value in label.unique():
        group = x[label == value].double()
        if len(group) > 1:
            squares += float((group - group.mean(0)).square().mean()) * len(group)
            free += len(group) - 1
    return math.sqrt(squares / free) if free else math.nan


def roughness(x: Tensor) -> float:
    """Mean squared difference of neighbours over twice the variance of a sample: 1 for white noise, 0 for what is flat."""
    x = x.double()
    variance = float(x.flatten(2).var(2).mean())
    steps = [float(x.diff(dim=axis).square().mean()) for axis in range(2, x.dim()) if x.shape[axis] > 1]
    return sum(steps) / len(steps) / (2 * variance) if steps and variance > 0 else 0.0


def energy_distance(a: Tensor, b: Tensor) -> float:
    """``(2 E|a - b| - E|a - a'| - E|b - b'|) / E|b - b'|``, pairs of different rows; about 0 for one law."""
    a, b = a.flatten(1).double(), b.flatten(1).double()
    between = torch.cdist(a, b).mean()
    inner = [torch.pdist(v).mean() for v in (a, b)]
    return float((2 * between - inner[0] - inner[1]) / inner[1])  # nan of a single row
