"""The audio adapter: sound files <-> log-mel tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from cmmulti.media import Media
from cmmulti.modality import DataSource, Item, Modality, Split, TrainingSet, require_whole
from cmmulti.randomness import SampleRandomness
from modalities.audio import datasets, files, level, render
from modalities.audio.augment import placed
from modalities.audio.clip import Clip, Span, from_floats
from modalities.audio.measures import reference_metrics
from modalities.audio.representation import audible, griffin_lim, limits, log_mel_of, to_model
from modalities.audio.resampling import resampled
from modalities.audio.settings import AudioSettings
from modalities.audio.tasks import BAND, Inpaint
from modalities.audio.vocoder import Vocoder, require_same_mel


class AudioModality(Modality):
    """Sound. A clip is one part, (1, mels, frames); the waveform comes back by Griffin-Lim or by a vocoder."""

    name = "audio"
    Settings = AudioSettings
    extension = ".wav"
    suffixes = files.SUFFIXES
    tasks = {Inpaint.name: Inpaint()}
    settings: AudioSettings

    def __init__(self, settings: AudioSettings) -> None:
        super().__init__(settings)
        self.vocoder: Vocoder | None = None

    def use_vocoder(self, vocoder: Vocoder) -> None:
        """Let ``vocoder`` make generated waveforms from now on; refused where its mel settings are not the model's."""
        require_same_mel(vocoder, self.settings.mel)
        self.vocoder = vocoder

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.settings.mel.mels, self.settings.frames)

    @property
    def valid_range(self) -> tuple[float, float]:
        return limits(self.settings)

    def load(self, path: Path) -> Clip:
        return files.load(path)

    def describe(self, path: Path) -> dict[str, Any]:
        clip = files.load(path)
        return {
            "format": f"{clip.container}, {clip.subtype}",
            "seconds": round(clip.seconds, 4),
            "frames": clip.frames,
            "rate": clip.rate,
            "channels": clip.channels,
            "peak": round(float(abs(clip.floats()).max()), 4),
        }

    def encode(self, item: Clip) -> Tensor:
        """The mean of the channels at the model's rate, centred in the model's window (or its middle cut out)."""
        wave = torch.from_numpy(item.mid().astype(np.float32))
        wave = resampled(wave, item.rate, self.settings.mel.rate)
        x = to_model(placed(wave, self.settings.samples, None)[None], self.settings)
        # Float files may pass full scale.
        return x.clamp(*self.valid_range)

    def encode_marked(self, item: Clip, mark: Sequence[Span] | None) -> Tensor:
        """As :meth:`encode`; of a clip longer than the model's window one part per hole, the hole in its middle."""
        length = ceil(self.settings.seconds * item.rate)
        if not mark or item.frames <= length:
            return self.encode(item)
        starts = [min(max((start + end - length) // 2, 0), item.frames - length) for start, end in mark]
        return torch.cat([self.encode(item.cut(start, start + length)) for start in starts])

    def decode(self, x: Tensor, like: Item | None = None, randomness: SampleRandomness | None = None) -> Clip:
        """Mono at the model's rate. ``like`` does not change it: rate and gain are the model's own.

        Several parts follow one another in time.
        """
        require_whole(x, len(self.shape) + 1)
        values = log_mel_of(audible(x.cpu(), self.settings), self.settings)
        waves = griffin_lim(values, self.settings, randomness) if self.vocoder is None else self.vocoder(values)
        return from_floats(waves.flatten().numpy(), self.settings.mel.rate)

    def save(self, item: Clip, path: Path) -> Path:
        return files.save(item, path)

    def render(self, panels: Mapping[str, Item], reference: str | None = None, mark: Any = None) -> list[Media]:
        return render.render(panels, mark)

    def metrics(self, result: Clip, truth: Clip, mark: Any = None) -> dict[str, float]:
        return reference_metrics(result, truth, mark)

    def specification(self) -> dict[str, str]:
        mel, settings = self.settings.mel, self.settings
        return {
            "rate": f"{mel.rate} Hz",
            "clip": f"{settings.seconds:g} s, {settings.samples} samples, {settings.frames} frames",
            "mel": f"{mel.mels} bands from {mel.fmin:g} to {mel.fmax:g} Hz ({mel.scale} scale, {mel.norm or 'no'} norm), "
            f"FFT of {mel.n_fft}, Hann window of {mel.win}, hop of {mel.hop} samples, "
            f"{'magnitude' if mel.power == 1 else 'power'}, natural logarithm from {mel.floor:g}",
            "band": f"edits are filled by the model up to {BAND * mel.rate:g} Hz, above it by extrapolation",
        }

    def network(self) -> dict[str, Any]:
        return {
            "dims": 2,
            "in_channels": 1,
            "channels": [48, 80, 112],
            "blocks": 1,
            "attention": [-1],
            "patch": 2,
            "classes": self.settings.classes,
        }

    def measured(self, source: DataSource) -> Self:
        settings = self.settings
        if None not in (settings.mean, settings.std, settings.level):
            return self
        data = datasets.dataset(source, "train", level.open_numbers(settings))
        return type(self)(level.measured(data, settings))

    def dataset(self, source: DataSource, split: Split) -> TrainingSet:
        return datasets.dataset(source, split, self.settings)
