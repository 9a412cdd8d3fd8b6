"""A head that anybody can compute, a network that says nothing of it, and the task mri on both."""

import numpy as np
import torch
from torch import nn

from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from modalities.volume.item import Volume
from modalities.volume.mri.masks import cartesian_mask
from modalities.volume.mri.simulate import simulate_kspace
from modalities.volume.mri.task import MRI, MRIOptions

AFFINE = np.array([[2.0, 0, 0, -30], [0, 2, 0, -40], [0, 0, 2, 5], [0, 0, 0, 1]])


class Silent(nn.Module):
    """A network that says nothing: the estimate is ``c_skip x``, a Gaussian prior of mean 0 and no structure."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, time, condition, time_next=None):
        return torch.zeros_like(x)


def head(shape=(36, 40, 2), affine=AFFINE):
    """An ellipsoid with a brighter one inside, air around it, in scanner units."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    x, y, z = axes
    outer = (x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 2) ** 2 < 1
    inner = ((x - 0.1) / 0.3) ** 2 + ((y + 0.2) / 0.4) ** 2 < 1
    return Volume((300 * outer + 200 * inner * outer).astype(np.float32), affine)


def solve(assignment, model, steps=2, seed=0):
    parts = assignment.shape[0]
    randomness = SampleRandomness([(seed, part) for part in range(parts)])
    samples = Multistep().sample(model, assignment.shape, assignment.levels(steps), randomness, problem=assignment.problem)
    return assignment.finish(samples.x, randomness.child("finish"))


def prepared(modality, model, source, **options):
    return MRI().prepare(modality, source, MRIOptions(**options), model)


def relative(result, truth):
    return np.linalg.norm(result.values() - truth.values()) / np.linalg.norm(truth.values())


def simulated_kspace(acceleration=4, noise=0.0, shape=(36, 40, 2), seed=0, coils=1, affine=AFFINE):
    mask = cartesian_mask("random", shape[1], acceleration, 0.2, seed)
    return simulate_kspace(head(shape).values(), affine, mask, noise, seed, coils)
