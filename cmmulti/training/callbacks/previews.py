"""Samples at fixed seeds while training, as files and in TensorBoard. They draw nothing from the run's randomness."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import Trainer
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.files import replacing
from cmmulti.media import Media, Picture, Player
from cmmulti.modality import Modality
from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.randomness import SampleRandomness
from cmmulti.training.callbacks.average import Average
from cmmulti.training.callbacks.base import AfterStep, is_due
from cmmulti.training.callbacks.log import Log
from cmmulti.training.callbacks.sheet import sheet
from cmmulti.training.module import TrainingModule


class Previews(AfterStep):
    """``previews/step-NNNNNNNN-Ksteps.png`` (and ``-I.wav``): samples of the average that will be exported.

    Args:
        folder: of the run. config: of the exported model, for this modality. name: of one of several modalities, which
            then has a folder of its own. contexts: of training items, which take turns as classes do.
    """

    def __init__(
        self,
        folder: Path,
        modality: Modality,
        config: PipelineConfig,
        average: Average,
        log: Log,
        name: str = "",
        contexts: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.tag = folder / "previews" / name, f"preview/{name}/" if name else "preview/"
        self.modality, self.config, self.average, self.log_rows = modality, config, average, log
        self.contexts = contexts

    def after_step(self, trainer: Trainer, module: TrainingModule) -> None:
        every = module.config.preview.every_steps
        if not every or not is_due(module, every) or not (trainer.is_global_zero or module.sharded):
            return
        model = self.average.of(module)
        if not trainer.is_global_zero:
            return
        pipeline = Pipeline(model, self.modality, self.config)
        for steps in module.config.preview.steps or ():
            self._preview(pipeline, module, steps)

    def _preview(self, pipeline: Pipeline, module: TrainingModule, steps: int) -> None:
        settings = module.config.preview
        seeds = list(range(settings.seed, settings.seed + settings.n))
        panels = {}
        for seed in seeds:
            # Not pipeline.generate: it would share the work out among the processes of the training run.
            samples = pipeline.sampler().sample(
                pipeline.model,
                (1, *self.modality.shape),
                pipeline.levels(steps),
                SampleRandomness([seed]),
                pipeline.condition(pipeline.labels_for([seed], None), None, self._context(seed)),
            )
            decoded = self.modality.decode(samples.x.cpu(), None, SampleRandomness([seed], "decode"))
            panels[f"seed {seed}"] = decoded
        media = self.modality.render(panels)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._keep(media, f"step-{module.step:08d}-{steps}steps", f"{self.tag}{steps}steps", module.step)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot write previews ({error.strerror or error})") from error

    def _context(self, seed: int) -> Tensor | None:
        return None if self.contexts is None else self.contexts[seed % len(self.contexts)][None]

    def _keep(self, media: Sequence[Media], name: str, tag: str, step: int) -> None:
        """One picture of all pictures, and each sound, as files and in TensorBoard."""
        writer = self.log_rows.writer
        players = [m for m in media if isinstance(m, Player)]
        pictures = [m if isinstance(m, Picture) else m.picture for m in media]
        if pngs := [p.png for p in pictures if p is not None]:
            png = sheet(pngs)
            with replacing(self.folder / f"{name}.png") as part:
                part.write_bytes(png)
            if writer is not None:
                with Image.open(io.BytesIO(png)) as image:
                    writer.add_image(tag, np.asarray(image), step, dataformats="HWC")
        for i, player in enumerate(players):
            with replacing(self.folder / f"{name}-{i}.wav") as part:
                part.write_bytes(player.wav)
            if writer is not None and (sound := _samples(player.wav)) is not None:
                writer.add_audio(f"{tag}/{i}", torch.from_numpy(sound[0]), step, sound[1])


def _samples(wav: bytes) -> tuple[np.ndarray, int] | None:
    """Mono samples in [-1, 1] and their rate, of 16-bit PCM; other encodings have no place in TensorBoard."""
    try:
        with wave.open(io.BytesIO(wav)) as file:
            if file.getsampwidth() != 2:
                return None
            data = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
            return data.mean(1, dtype=np.float32) / 32768, file.getframerate()
    except wave.Error:
        return None
