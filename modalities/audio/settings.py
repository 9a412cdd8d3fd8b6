"""The numbers that turn a waveform into a model tensor. They travel with the model."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cmmulti.errors import UserError
from cmmulti.modality import ModalitySettings

SIGMA_DATA = 0.5
"""Standard deviation that representations are scaled to."""

LEAST_WEIGHT = 1e-10
"""Of a sample that is put together from windows; torch.istft refuses 1e-11."""


class MelSettings(BaseModel):
    """A log-mel front end; a vocoder must have been trained on the very same.

    Attributes:
        rate: samples per second. n_fft, win, hop: samples; the window is a periodic Hann one. mels: number of bands.
        fmin, fmax: Hz. scale: formula of the mel scale. norm: ``slaney`` divides each filter by its width.
        power: 1 for magnitude, 2 for power. floor: smallest value before the natural logarithm.
        centered: frame t is centred on sample ``t * hop``, and the ends are padded as ``padding`` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rate: int = Field(default=8000, ge=1000, le=384_000)
    n_fft: int = Field(default=256, ge=16, le=65_536)
    win: int = Field(default=256, ge=16, le=65_536)
    hop: int = Field(default=64, ge=1, le=65_536)
    mels: int = Field(default=64, ge=4, le=1024)
    fmin: float = Field(default=0.0, ge=0)
    fmax: float = Field(default=4000.0, gt=0)
    scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney"] | None = "slaney"
    power: Literal[1, 2] = 1
    log: Literal["natural"] = "natural"
    floor: float = Field(default=1e-5, gt=0)
    centered: Literal[True] = True
    padding: Literal["reflect"] = "reflect"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.hop <= self.win <= self.n_fft:
            raise ValueError(f"expected hop <= win <= n_fft, got {self.hop}, {self.win}, {self.n_fft}")
        if self.n_fft % 2:
            raise ValueError(f"n_fft: expected an even number, got {self.n_fft}")
        if not self.fmin < self.fmax <= self.rate / 2:
            raise ValueError(f"expected fmin < fmax <= rate / 2 = {self.rate / 2:g}, got {self.fmin:g} and {self.fmax:g}")
        return self


def _least_weight(mel: MelSettings, samples: int) -> float:
    """The smallest sum of squared windows over a sample of a clip: between frames, or after the centre of the last."""
    square = np.sin(np.pi * np.arange(mel.win) / mel.win) ** 4
    centre = mel.n_fft // 2 - (mel.n_fft - mel.win) // 2
    between, after = (np.pad(s, (0, -len(s) % mel.hop)).reshape(-1, mel.hop).sum(0) for s in (square, square[centre:]))
    return float(min(between.min(), after[: samples % mel.hop].min(initial=np.inf)))


class AudioSettings(ModalitySettings):
    """Settings of the audio adapter.

    Attributes:
        mel: the front end. samples: length of the clips that the model generates, at ``mel.rate``.
        mean, std: of the log-mel values of augmented training clips, as padded. The model sees ``(v - mean) / std * 0.5``.
        level: RMS of the active parts of training clips; clips are brought to it before they are edited. These three are
            measured on the training data when a run begins, where the config leaves them out.
        classes: number of labels, 0 for none. iterations: of Griffin-Lim.
    """

    mel: MelSettings = MelSettings()
    samples: int = Field(default=8000, ge=1)
    mean: float | None = Field(default=None, ge=-50, le=50)
    std: float | None = Field(default=None, gt=0, le=50)
    level: float | None = Field(default=None, gt=0, le=1)
    classes: int = Field(default=10, ge=0)
    iterations: int = Field(default=32, ge=1, le=10_000)

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.samples <= self.mel.n_fft // 2:
            raise ValueError(f"samples: expected more than n_fft / 2 = {self.mel.n_fft // 2}, got {self.samples}")
        return self

    @model_validator(mode="after")
    def _overlapping(self) -> Self:
        mel = self.mel
        if _least_weight(mel, self.samples) < LEAST_WEIGHT:
            raise ValueError(
                f"mel: windows of {mel.win} samples every {mel.hop} do not overlap enough to be turned back into a clip of "
                f"{self.samples} samples; expected a smaller hop"
            )
        return self

    def known(self, name: Literal["mean", "std", "level"]) -> float:
        """One of the measured numbers. Raises UserError where it is still open, as in a damaged model folder."""
        value: float | None = getattr(self, name)
        if value is None:
            raise UserError(f"audio settings: {name} is not set; expected the number that training measured")
        return value

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return 1 + self.samples // self.mel.hop

    @property
    def seconds(self) -> float:
        """Length of a clip."""
        return self.samples / self.mel.rate
