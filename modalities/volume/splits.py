"""Who is in which split, and which slices are copies."""

from __future__ import annotations

import hashlib

import numpy as np

from cmmulti.modality import Split
from modalities.volume.item import Array


def divide(n: int, seed: int, fractions: tuple[float, float]) -> dict[Split, list[int]]:
    """A seeded shuffle of ``n`` subjects into train, val and test; ``fractions`` of val and test, rounded."""
    order = np.random.default_rng(seed).permutation(n).tolist()
    val, test = (round(n * f) for f in fractions)
    return {"val": sorted(order[:val]), "test": sorted(order[val : val + test]), "train": sorted(order[val + test :])}


def distinct(arrays: Array) -> list[int]:
    """Indices of the first of each set of equal ``arrays[i]``."""
    seen: dict[bytes, int] = {}
    for i, array in enumerate(arrays):
        seen.setdefault(hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest(), i)
    return sorted(seen.values())
