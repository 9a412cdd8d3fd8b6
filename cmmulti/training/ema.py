"""Averages of the weights over training: exponential ones and EDM2's power functions, all at once, in float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from cmmulti.training.sharding import spread


class Profile(ABC):
    """How fast an average forgets."""

    @abstractmethod
    def beta(self, step: int) -> float:
        """Weight of the old average in the update after optimiser step ``step`` (1 for the first); 0 forgets it."""


@dataclass(frozen=True)
class HalfLife(Profile):
    """``beta = 0.5^(1 / H)`` with H steps, at most ``ramp`` times the steps done where ``ramp`` is not 0 (EDM)."""

    steps: float
    ramp: float

    def beta(self, step: int) -> float:
        half_life = min(self.steps, self.ramp * (step - 1)) if self.ramp else self.steps
        return 0.5 ** (1 / half_life) if half_life > 1e-3 else 0.0


@dataclass(frozen=True)
class Power(Profile):
    """``beta = (1 - 1 / t)^(gamma + 1)``, the average of profile ``tau^gamma`` (EDM2, arXiv 2312.02696, eq. 121-127)."""

    sigma_rel: float

    def beta(self, step: int) -> float:
        return float((1 - 1 / step) ** (gamma_of(self.sigma_rel) + 1))


@cache
def gamma_of(sigma_rel: float) -> float:
    """The exponent whose profile has relative width ``sigma_rel``: the largest real root of
    ``g^3 + 7 g^2 + (16 - sigma_rel^-2) g + (12 - sigma_rel^-2)``."""
    inverse = sigma_rel**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


class EMA:
    """Several averages of a network's parameters.

    Args:
        parameters: in their order; the averages start as copies. profiles: by name.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], profiles: Mapping[str, Profile]) -> None:
        self.parameters = list(parameters)
        self.profiles = dict(profiles)
        self.averages = {name: [_copy(p) for p in self.parameters] for name in self.profiles}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move every average towards the weights as they are after optimiser step ``step``."""
        source: list[Tensor] = [p if p.dtype == torch.float32 else p.float() for p in self.parameters]
        for name, profile in self.profiles.items():
            torch._foreach_lerp_(self.averages[name], source, 1 - profile.beta(step))

    def weights(self, name: str) -> list[Tensor]:
        """The average called ``name``, or the parameters themselves for ``raw``."""
        return [p.detach() for p in self.parameters] if name == "raw" else self.averages[name]

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {name: list(average) for name, average in self.averages.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, list[Tensor]]) -> None:
        for name, average in self.averages.items():
            for mine, stored in zip(average, state[name], strict=True):
                mine.copy_(spread(stored, mine))

    @torch.no_grad()
    def to(self, device: torch.device) -> None:
        """Move the averages, after the parameters have moved."""
        for average in self.averages.values():
            average[:] = [a.to(device) for a in average]


def _copy(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().clone().float()
