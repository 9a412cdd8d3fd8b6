"""Pieces whose forward derivative PyTorch lacks or computes slowly, and how to tell that one is asked for.

Their weights are held: a derivative along the inputs alone.
"""

from __future__ import annotations

from torch import Tensor, addcmul, nn, ones
from torch.autograd import forward_ad
from torch.nn import functional as F


def in_forward_mode() -> bool:
    """Whether the code runs inside ``torch.func.jvp`` or a dual level."""
    return int(getattr(forward_ad, "_current_level", -1)) >= 0


class Dropout(nn.Dropout):
    """Dropout whose mask follows from the generator and the shape alone.

    PyTorch draws in the order of memory, but inside ``torch.func.jvp`` in logical order: of channels-last activations the
    pass with a derivative would drop other units than the pass beside it.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        return input * F.dropout(ones(input.shape, device=input.device), self.p).to(input.dtype)


class GroupNorm(nn.GroupNorm):
    """Group norm whose forward derivative takes any memory format, and keeps it (PyTorch's own wants contiguous input).

    With ``h = (x - mean x) / std x`` over a group, that of h along v is ``(v - mean v - h mean(h v)) / std x``.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not in_forward_mode():
            return super().forward(x)
        x, tangent = forward_ad.unpack_dual(x.to(self.weight.dtype))
        ones = [1] * (x.dim() - 2)
        groups = (len(x), self.num_groups, x.shape[1] // self.num_groups)

        def mean(values: Tensor) -> Tensor:
            # Over space first: in channels-last memory a view by groups would be a copy.
            over_space = values.unsqueeze(-1).mean(tuple(range(2, x.dim() + 1)))
            return over_space.view(groups).mean(-1, keepdim=True).expand(groups)

        def wide(values: Tensor) -> Tensor:
            return values.reshape(*x.shape[:2], *ones)

        centred = x - wide(mean(x))
        inverse = (mean(centred.square()) + self.eps).rsqrt()
        gain = inverse * self.weight.view(self.num_groups, -1)
        out = addcmul(self.bias.view(1, -1, *ones), centred, wide(gain))
        if tangent is None:
            return out
        along = addcmul(wide(-gain * mean(tangent)), tangent, wide(gain))
        return forward_ad.make_dual(out, along.addcmul(centred, wide(-gain * inverse.square() * mean(centred * tangent))))


def convolved(convolution: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """``convolution`` of x, whose forward derivative is one convolution of the tangent.

    PyTorch's own adds one of the input with the weights' tangent, although that is zero where weights are held.
    """
    weight, bias = convolution.weight, convolution.bias
    if not in_forward_mode():
        return convolution._conv_forward(x, weight, bias)
    x, tangent = forward_ad.unpack_dual(x)
    out = convolution._conv_forward(x, weight, bias)
    return out if tangent is None else forward_ad.make_dual(out, convolution._conv_forward(tangent, weight, None))


class Conv1d(nn.Conv1d):
    """``nn.Conv1d``, cheaper in forward mode."""

    def forward(self, input: Tensor) -> Tensor:
        return convolved(self, input)


class Conv2d(nn.Conv2d):
    """``nn.Conv2d``, cheaper in forward mode."""

    def forward(self, input: Tensor) -> Tensor:
        return convolved(self, input)


class Conv3d(nn.Conv3d):
    """``nn.Conv3d``, cheaper in forward mode."""

    def forward(self, input: Tensor) -> Tensor:
        return convolved(self, input)


KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: Dropout,
    nn.GroupNorm: GroupNorm,
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
}


def with_forward_mode(network: nn.Module) -> None:
    """Make the parts of somebody else's network, where they are PyTorch's own, those of this file; weights stay."""
    for module in network.modules():
        if kind := KINDS.get(type(module)):
            module.__class__ = kind
