"""What the contract of modalities says of the data that an adapter hands over."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import numpy as np
import torch

from cmmulti.modality import DataSource, Modality, Split
from cmmulti.testing.suite import fail_unless

SPLITS: tuple[Split, ...] = get_args(Split)


def same_each_time(modality: Modality, source: DataSource) -> None:
    """Fail unless the train split is the same twice, its first tensors of the right kind and drawn as they are told."""
    sets = []
    for seed in (1, 2):
        with _global_generators(seed):
            found = modality.measured(source).dataset(source, "train")
            n = min(len(found), 8)
            plain = [found.tensor(i, None) for i in range(n)]
            augmented = [found.tensor(i, torch.Generator().manual_seed(i)) for i in range(n)]
            sets.append((list(found.names), found.labels, plain, augmented))
    (names, labels, *first), (again, relabelled, *second) = sets
    fail_unless(names == again, "the same split has other names a second time")
    fail_unless(torch.equal(labels, relabelled), "the same split has other labels a second time")
    fail_unless(labels.dtype == torch.int64 and labels.shape == (len(names),), "labels are not (n,) int64")
    for kind, tensors, others in zip(("a tensor", "an augmented tensor"), first, second, strict=True):
        for name, x, y in zip(names, tensors, others, strict=False):
            fail_unless(torch.equal(x, y), f"{name}: {kind} is another a second time")
            same = x.shape == modality.shape and x.dtype == torch.float32
            fail_unless(same, f"{name}: {kind} is {tuple(x.shape)} {x.dtype}, not {modality.shape} float32")
            fail_unless(bool(x.isfinite().all()), f"{name}: {kind} is not finite")


def apart(modality: Modality, source: DataSource) -> None:
    """Fail unless each split has items and none has another's."""
    modality = modality.measured(source)
    names: dict[str, str] = {}
    contents: dict[bytes, str] = {}
    for split in SPLITS:
        found = modality.dataset(source, split)
        fail_unless(len(found) > 0, f"the {split} split is empty")
        for name in found.names:
            fail_unless(names.get(name, split) == split, f"{name} is in the {names.get(name)} split and in {split}")
        names |= dict.fromkeys(found.names, split)
        tensors = [found.tensor(i, None) for i in range(min(len(found), 100))]
        # What is the same everywhere, such as air, may occur twice.
        keys = {x.numpy().tobytes() for x in tensors if float(x.std()) > 0}
        for content in keys:
            fail_unless(content not in contents, f"a tensor of the {contents.get(content)} split is in {split}")
        contents |= dict.fromkeys(keys, split)


@contextmanager
def _global_generators(seed: int) -> Iterator[None]:
    """Python's, NumPy's and PyTorch's hold ``seed``, and are as before afterwards."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
