"""MONAI's DiffusionModelUNet with this project's forward signature, selectable by config as ``monai``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.nn.embedding import label_index
from cmmulti.nn.forward_mode import with_forward_mode
from cmmulti.nn.unet import attended, crop_to, pad_to


class MonaiUNet(nn.Module):
    """``forward(x, time, condition, time_next=None) -> like x`` around MONAI's network.

    Args:
        dims, in_channels, channels, blocks, attention, groups, classes, context_width: as for
            :class:`~cmmulti.nn.unet.UNet`, but of 2 or 3 dimensions, since MONAI's has no form for one; ``channels`` are
            multiples of ``groups``.
        head_channels: channels of one attention head.
        time_scale: MONAI's sinusoids expect times up to 1000; the native time is multiplied by this.

    One time only. Any spatial size is padded with zeros to a multiple of ``2**(levels - 1)`` and cropped back. MONAI's
    weights load into ``.unet``.
    """

    def __init__(
        self,
        dims: Literal[2, 3] = 2,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 96),
        blocks: int = 1,
        attention: Sequence[int] = (),
        groups: int = 16,
        classes: int = 0,
        context_width: int = 0,
        head_channels: int = 32,
        time_scale: float = 1000.0,
    ) -> None:
        super().__init__()
        attention = attended(attention, len(channels))
        self.multiple, self.classes, self.time_scale = 2 ** (len(channels) - 1), classes, time_scale
        self.context_width = context_width
        self.unet = DiffusionModelUNet(
            spatial_dims=dims,
            in_channels=in_channels,
            out_channels=in_channels,
            num_res_blocks=blocks,
            channels=tuple(channels),
            attention_levels=tuple(level in attention for level in range(len(channels))),
            norm_num_groups=groups,
            num_head_channels=head_channels,
            with_conditioning=context_width > 0,
            cross_attention_dim=context_width or None,
            num_class_embeds=classes + 1 if classes else None,
        )
        with_forward_mode(self.unet)

    def forward(
        self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
    ) -> Tensor:
        """(B, C, *spatial) and (B,) times -> (B, C, *spatial)."""
        if time_next is not None:
            raise ValueError("MONAI's network has one time; two-time methods need the network `unet`")
        label = label_index(condition, self.classes, time) if self.classes else None
        context = condition.context
        if self.context_width and context is None:
            context = x.new_zeros(len(x), 1, self.context_width)
        output: Tensor = self.unet(pad_to(x, self.multiple), time * self.time_scale, context, label)
        return crop_to(output, x.shape[2:])
