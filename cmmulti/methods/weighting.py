"""A weight per noise level that is learned beside the student."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmmulti.nn.embedding import TimeFeatures
from cmmulti.nn.precision import full_precision


class LearnedWeight(nn.Module):
    """``u(sigma)``, one linear layer on Fourier features of ``ln(sigma) / 4``, 0 at the start (EDM2, arXiv 2312.02696).

    A loss ``e^u E - u`` is least where ``e^-u`` is the mean of E at that level: every level then weighs the same.
    """

    def __init__(self, features: int = 128) -> None:
        super().__init__()
        self.features = TimeFeatures(features)
        self.linear = nn.Linear(features, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, sigma: Tensor) -> Tensor:
        """(B,) -> (B,), float32 whatever autocast says."""
        with full_precision(sigma.device):
            return self.linear(self.features(sigma.log() / 4)).squeeze(1)

    def balanced(self, error: Tensor, sigma: Tensor) -> Tensor:
        """``e^u error - u`` of (B,) errors at ``sigma`` (B,)."""
        u = self(sigma)
        return torch.exp(u) * error - u
