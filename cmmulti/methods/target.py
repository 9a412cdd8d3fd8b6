"""The target of consistency losses: the student itself, or a slow average of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cmmulti.conditioning import Condition
from cmmulti.model import Model


class Target(nn.Module):
    """``f`` with weights ``theta^- <- mu theta^- + (1 - mu) theta``; a copy is kept only where mu is above 0.

    It is separate from the averages that generation uses. Its weights are saved with the run.
    """

    def __init__(self, student: Model, average: bool) -> None:
        super().__init__()
        self.copy = copy.deepcopy(student).requires_grad_(False) if average else None

    def endpoint(self, student: Model, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The target's estimate, without gradient, in the student's mode (dropout masks are shared by the caller)."""
        model = student if self.copy is None else self.copy
        with torch.no_grad(), _mode(model, student.training):
            return model.endpoint(x, sigma, condition)

    def project(self, student: Model, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The average's end of the trajectory through ``x``: its weights are held, and x's gradient passes through."""
        if self.copy is None:
            raise ValueError("the student itself cannot be held; keep an average")
        with _mode(self.copy, student.training):
            return self.copy.endpoint(x, sigma, condition)

    @torch.no_grad()
    def update(self, student: Model, mu: float) -> None:
        """Move towards the student; buffers are copied."""
        if self.copy is None:
            return
        # By position: compiled or wrapped modules carry other names. At once, for a GPU starts a kernel for each otherwise.
        torch._foreach_lerp_(list(self.copy.parameters()), list(student.parameters()), 1 - mu)
        for kept, new in zip(self.copy.buffers(), student.buffers(), strict=True):
            kept.copy_(new)


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)
