"""What a model of signals was trained for; travels with the model."""

from __future__ import annotations

from pydantic import Field

from cmmulti.modality import ModalitySettings


class SignalSettings(ModalitySettings):
    """``rate`` in Hz and ``length`` in samples of what a model makes; ``scale``: millivolts that become 1."""

    rate: float = Field(100.0, gt=0)
    length: int = Field(256, ge=8)
    channels: int = Field(1, ge=1)
    scale: float = Field(0.5, gt=0)
    classes: int = Field(0, ge=0)
