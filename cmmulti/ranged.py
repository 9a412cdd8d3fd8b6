"""Several networks as one model, each asked at its own noise levels (the pair of TCM, arXiv 2410.14895)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.errors import UserError
from cmmulti.model import Model

Span = tuple[Model, float, float]
"""A model and the noise levels ``[sigma_low, sigma_high]`` that it serves; at the end shared by two, the higher one."""


class Ranged(Model):
    """A model whose network depends on the noise level, sample by sample.

    The highest levels are those of ``network`` and ``parameterization``; ``lower`` are the models of the levels below, from
    the lowest, and ``limits`` the level at which each gives way. One of them evaluates a sample, so that ``nfe`` counts as
    for a single network. Trajectories end where the lowest model's do.

    Args:
        spans: in ascending order, each beginning where the former ends, of the same role.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        top, _, sigma_max = spans[-1]
        super().__init__(top.network, top.parameterization, top.role, sigma_max, top.evaluation_batch)
        for (below, _, end), (above, begin, _) in zip(spans[:-1], spans[1:], strict=True):
            if end != begin or below.role != above.role:
                raise ValueError(f"networks of {below.role} up to {end:g} and of {above.role} from {begin:g} do not join")
        self.lower = nn.ModuleList(model for model, _, _ in spans[:-1])
        self.limits = [high for _, _, high in spans[:-1]]

    @property
    def parts(self) -> list[Model]:
        """The models of the lower levels, from the lowest."""
        return [cast(Model, part) for part in self.lower]

    @property
    def sigma_boundary(self) -> float:
        return self.parts[0].sigma_boundary

    def raw(self, x_native: Tensor, t: Tensor, condition: Condition = NO_CONDITION, t_next: Tensor | None = None) -> Tensor:
        raise UserError(
            f"a model of {len(self.limits) + 1} networks has no single network to call; expected a model of one"
        )

    def _estimate(self, x: Tensor, sigma: Tensor | float, condition: Condition, sigma_next: Tensor | None = None) -> Tensor:
        evaluations = self.nfe + 1
        if isinstance(sigma, (int, float)):
            estimate = self._by(sum(sigma >= limit for limit in self.limits), x, sigma, condition, sigma_next)
        else:
            estimate = self._by_sample(x, self._levels(x, sigma), condition, sigma_next)
        self.nfe = evaluations
        return estimate

    def _by_sample(self, x: Tensor, sigma: Tensor, condition: Condition, sigma_next: Tensor | None) -> Tensor:
        serving = torch.stack([sigma >= limit for limit in self.limits]).sum(0)
        present = serving.unique().tolist()
        if len(present) == 1:
            return self._by(present[0], x, sigma, condition, sigma_next)
        rows, estimates = [], []
        for index in present:
            mine = (serving == index).nonzero().flatten()
            later = None if sigma_next is None else sigma_next[mine]
            rows.append(mine)
            estimates.append(self._by(index, x[mine], sigma[mine], condition[mine], later))
        return torch.cat(estimates)[torch.cat(rows).argsort()]

    def _by(self, index: int, x: Tensor, sigma: Tensor | float, condition: Condition, sigma_next: Tensor | None) -> Tensor:
        if index == len(self.limits):
            return super()._estimate(x, sigma, condition, sigma_next)
        return self.parts[index]._estimate(x, sigma, condition, sigma_next)


def joined(spans: Sequence[Span]) -> Model:
    """One model of what a method exports: the network itself where there is one."""
    return spans[0][0] if len(spans) == 1 else Ranged(spans)
