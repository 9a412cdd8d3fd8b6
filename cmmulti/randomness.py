"""Random numbers with an address.

Generation: one integer seed per sample, so that the noise of sample *i* depends on its seed only, not on the batch, the
device, or how many samples are made. Training: every draw comes from a generator keyed by (seed, step, rank, purpose),
so that resuming needs counters and no hidden state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor


def key(*parts: Hashable) -> int:
    """A 63-bit seed made of the parts' ``repr``: the same on every machine and Python version.

    NumPy's integers are the same as Python's, also in tuples.
    """
    digest = hashlib.blake2b("\x1f".join(repr(_plain(part)) for part in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _plain(part: Hashable) -> Hashable:
    if isinstance(part, tuple):
        return tuple(map(_plain, part))
    return int(part) if isinstance(part, Integral) and not isinstance(part, bool) else part


class SampleRandomness:
    """One generator per sample of a batch.

    Args:
        seeds: one seed per sample; a seed may be any key (an int, or a tuple such as ``(seed, slice)``).
        purpose: names an independent stream of the same seeds.

    Draws are made on the CPU and moved, so that a GPU gives the same samples. The same calls in the same order give the
    same bits.
    """

    def __init__(self, seeds: Sequence[Hashable], purpose: str = "sample") -> None:
        self.seeds = tuple(seeds)
        self.purpose = purpose
        self._generators = [torch.Generator().manual_seed(key(purpose, seed)) for seed in self.seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def child(self, purpose: str) -> SampleRandomness:
        """A fresh, independent stream for another use; drawing from it leaves this one as it is."""
        return SampleRandomness(self.seeds, f"{self.purpose}/{purpose}")

    def normal(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Standard normal float32 (B, *shape[1:]), row i from sample i's generator; ``shape[0]`` must be B."""
        return self._drawn(torch.randn, shape, device)

    def uniform(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Uniform on [0, 1), float32, as :meth:`normal`."""
        return self._drawn(torch.rand, shape, device)

    def _drawn(self, law: Callable[..., Tensor], shape: Sequence[int], device: torch.device | str) -> Tensor:
        if shape[0] != len(self):
            raise ValueError(f"noise for {shape[0]} samples asked of {len(self)} seeds")
        # Both said: a default dtype or device that a user has set makes no other samples.
        rows = [law(tuple(shape[1:]), generator=g, device="cpu", dtype=torch.float32) for g in self._generators]
        return torch.stack(rows).to(device)


@dataclass(frozen=True)
class TrainingRandomness:
    """Every random number of one training step on one process.

    Args:
        seed: of the run. step: optimiser steps done. rank: of the process.
        micro: index of the batch within the step, when gradients are accumulated.
    """

    seed: int
    step: int
    rank: int = 0
    micro: int = 0

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator for ``purpose``; asking twice gives the same numbers twice."""
        return torch.Generator(device).manual_seed(self._key(purpose))

    def normal_like(self, x: Tensor, purpose: str = "noise") -> Tensor:
        """Standard normal, in the shape and dtype and on the device of ``x``."""
        return torch.randn(x.shape, generator=self.generator(purpose, x.device), device=x.device, dtype=x.dtype)

    def uniform(self, n: int, device: torch.device | str, purpose: str) -> Tensor:
        """(n,) float32 on [0, 1)."""
        return torch.rand(n, generator=self.generator(purpose, device), device=device, dtype=torch.float32)

    @contextmanager
    def dropout(self, device: torch.device | str, purpose: str = "dropout") -> Iterator[None]:
        """Run a network pass with dropout masks that depend on the key only.

        The two passes of a pair (student and target, or primal and tangent) that enter this with the same purpose share
        their masks, on the CPU and on CUDA. The global generators are as before afterwards.
        """
        device = torch.device(device)
        cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            seed_global(self._key(purpose), device)
            yield

    def _key(self, purpose: str) -> int:
        return key(self.seed, self.step, self.rank, self.micro, purpose)


def seed_global(seed: int, device: torch.device) -> None:
    """Seed the global generators that networks draw from: the CPU's, and that of ``device`` where it is a GPU."""
    # Not torch.manual_seed, which takes 4 ms where there is no GPU; nor torch.cuda's, which seeds the current device.
    torch.random.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
