"""Pieces that PyTorch ships without a forward derivative, and how to tell that one is asked for."""

from __future__ import annotations

from torch import Tensor, nn
from torch.autograd import forward_ad


def in_forward_mode() -> bool:
    """Whether the code runs inside ``torch.func.jvp`` or a dual level."""
    return int(getattr(forward_ad, "_current_level", -1)) >= 0


class GroupNorm(nn.GroupNorm):
    """Group norm whose forward derivative takes any memory format (PyTorch's own wants contiguous input)."""

    def forward(self, x: Tensor) -> Tensor:
        if not in_forward_mode():
            return super().forward(x)
        grouped = x.reshape(len(x), self.num_groups, -1)
        centred = grouped - grouped.mean(-1, keepdim=True)
        normal = (centred * (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt()).reshape(x.shape)
        shape = (1, -1, *([1] * (x.dim() - 2)))
        return normal * self.weight.view(shape) + self.bias.view(shape)


def with_forward_mode(network: nn.Module) -> None:
    """Put :class:`GroupNorm` in place of PyTorch's in somebody else's network, before its weights are loaded."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.GroupNorm:
                setattr(module, name, GroupNorm(child.num_groups, child.num_channels, child.eps))
