"""How training clips are placed, cut and scaled. Every draw comes from the given generator."""

from __future__ import annotations

import torch
from torch import Tensor


def whole(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number in ``[low, high)``."""
    return int(torch.randint(low, high, (1,), generator=generator))


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator, dtype=torch.float64))


def placed(wave: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
    """(n,) -> (samples,): a short clip at a random place in silence, a long one cut at random; centred without draws."""
    spare = samples - len(wave)
    shift = abs(spare) // 2 if generator is None else whole(0, abs(spare) + 1, generator)
    if spare < 0:
        return wave[shift : shift + samples]
    return torch.nn.functional.pad(wave, (shift, spare - shift))


def scaled(wave: Tensor, gain_db: float, generator: torch.Generator | None) -> Tensor:
    """``wave`` times a random gain of up to ``gain_db`` either way, less where its peak would pass 1."""
    if generator is None:
        return wave
    gain = 10 ** (uniform(-gain_db, gain_db, generator) / 20)
    peak = float(wave.abs().max())
    return wave * (min(gain, 1 / peak) if peak > 0 else gain)
