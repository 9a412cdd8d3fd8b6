"""The hook for a neural vocoder: it declares its mel settings, and is refused where they differ from the model's."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from cmmulti.errors import UserError
from modalities.audio.settings import MelSettings


class Vocoder(Protocol):
    """Natural log-mel -> waveform.

    ``mel``: the front end that it was trained on, to the last field.
    """

    mel: MelSettings

    def __call__(self, logarithm: Tensor) -> Tensor:
        """(B, mels, frames) natural log-mel -> (B, samples) in [-1, 1] at ``mel.rate``."""
        ...


def require_same_mel(vocoder: Vocoder, mel: MelSettings) -> None:
    """Refuse a vocoder of another front end: it would sound robotic and too quiet.

    Raises:
        UserError: names each field that differs, with both values.
    """
    theirs, ours = vocoder.mel.model_dump(), mel.model_dump()
    wrong = [f"{name} {theirs[name]!r} (the model's is {ours[name]!r})" for name in ours if theirs[name] != ours[name]]
    if wrong:
        raise UserError(f"vocoder {type(vocoder).__name__}: its mel settings differ from the model's: {', '.join(wrong)}")
