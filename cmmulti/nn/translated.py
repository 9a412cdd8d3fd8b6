"""A network of one parameterization that answers as one of another, so that any method may start from its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cmmulti import registry
from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.nn.precision import full_precision
from cmmulti.parameterization import Parameterization, parameterization


class Translated(nn.Module):
    """``F_target`` made of ``F_source`` so that both are the same denoiser at every noise level.

    From ``c_skip x + c_out F`` of both forms: ``F_target = ((c_skip_s - c_skip_t) x + c_out_s F_source) / c_out_t``, with
    source and target scaling and timing their inputs in their own ways. Where ``c_out_t`` is 0 the network does not count.

    Args:
        network: ``{"name": ..., "settings": {...}}`` of the registered network that holds the weights, in ``.network``.
        source: name and settings of the parameterization that those weights were trained in.
        target: of the one that :meth:`forward` speaks.
        classes: labels that the network knows, told here too for those who ask the settings.
    """

    def __init__(
        self, network: Mapping[str, Any], source: Mapping[str, Any], target: Mapping[str, Any], classes: int = 0
    ) -> None:
        super().__init__()
        self.piece, self.source_piece, self.classes = dict(network), dict(source), classes
        self.network: nn.Module = registry.load("networks", network["name"])(**network.get("settings", {}))
        self.source, self.target = _form(source), _form(target)

    def forward(
        self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
    ) -> Tensor:
        """(B, C, *spatial) and (B,) times, both as the target form has them -> (B, C, *spatial)."""
        if time_next is not None:
            raise ValueError("a translated network has one time; two-time methods need the network `unet`")
        shape = (-1, *[1] * (x.dim() - 1))
        with full_precision(x.device):
            sigma = self.target.to_sigma(time.to(torch.promote_types(time.dtype, torch.float32)))
            s, t = self.source.coefficients(sigma), self.target.coefficients(sigma)
            scaled = (s.c_in / t.c_in).view(shape) * x
        output = self.network(scaled.to(x.dtype), s.c_noise, condition)
        with full_precision(x.device):
            counts = t.c_out != 0
            c_out = torch.where(counts, t.c_out, 1.0)
            of_x = ((s.c_skip - t.c_skip) / (t.c_in * c_out)).view(shape)
            of_output = (s.c_out / c_out).view(shape)
            answer = of_x * x + of_output * output.to(of_output.dtype)
            return torch.where(counts.view(shape), answer, 0.0)


def _form(piece: Mapping[str, Any]) -> Parameterization:
    return parameterization(piece["name"], **piece.get("settings", {}))
