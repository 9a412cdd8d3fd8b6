"""diffusers' UNet2DModel with this project's forward signature, selectable by config as ``diffusers``."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.errors import UserError
from cmmulti.nn.embedding import label_index
from cmmulti.nn.forward_mode import with_forward_mode
from cmmulti.nn.unet import crop_to, pad_to


def library() -> ModuleType:
    """diffusers, which is installed for those who ask for it."""
    try:
        import diffusers
    except ImportError as error:
        raise UserError(f"network diffusers: {error}; expected `pip install cmmulti[diffusers]`") from error
    module: ModuleType = diffusers
    return module


class DiffusersUNet(nn.Module):
    """``forward(x, time, condition, time_next=None) -> like x`` around a UNet2DModel, whose weights load into ``.unet``.

    Args:
        in_channels: of the data. unet: the other arguments of ``UNet2DModel``, as its ``config.json`` has them.
        classes: labels; the network holds one more, the last, for samples without a label.
        learned_variance: it also makes a variance per channel (the second half of its output), which is not used.
        time_scale: what the native time is multiplied by (1000 where a flow's time in 0..1 is told in steps).
        whole_times: its times are indices of a table: the nearest is told.

    One time only. Any spatial size is padded with zeros to a multiple of ``2**(levels - 1)`` and cropped back.
    """

    def __init__(
        self,
        in_channels: int = 3,
        unet: Mapping[str, Any] | None = None,
        classes: int = 0,
        learned_variance: bool = False,
        time_scale: float = 1.0,
        whole_times: bool = False,
    ) -> None:
        super().__init__()
        diffusers = library()
        self.classes, self.time_scale, self.whole_times = classes, time_scale, whole_times
        self.unet = diffusers.UNet2DModel(
            **dict(unet or {}),
            in_channels=in_channels,
            out_channels=in_channels * (2 if learned_variance else 1),
            num_class_embeds=classes + 1 if classes else None,
        )
        self.multiple = 2 ** (len(self.unet.config.block_out_channels) - 1)
        # Fused attention and PyTorch's group norm have no forward derivative for every input.
        attention = diffusers.models.attention_processor
        for module in self.unet.modules():
            if isinstance(module, attention.Attention):
                module.set_processor(attention.AttnProcessor())
        with_forward_mode(self.unet)

    def forward(
        self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
    ) -> Tensor:
        """(B, C, height, width) and (B,) times -> (B, C, height, width)."""
        if time_next is not None:
            raise ValueError("diffusers' network has one time; two-time methods need the network `unet`")
        label = label_index(condition, self.classes, time) if self.classes else None
        time = time * self.time_scale
        if self.whole_times:
            time = time.round().long()
        output: Tensor = self.unet(pad_to(x, self.multiple), time, label, return_dict=False)[0]
        # The second half of a learned variance's channels is left out.
        return crop_to(output[:, : x.shape[1]], x.shape[2:])
