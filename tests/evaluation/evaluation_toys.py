"""A modality and models small enough to be right about: vectors on a line whose class is their sign."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.errors import UserError
from cmmulti.media import Media
from cmmulti.modality import (
    Assignment,
    DataSource,
    Modality,
    ModalitySettings,
    Split,
    Task,
    TaskOptions,
    TrainingSet,
)
from cmmulti.model import Model
from cmmulti.operators.affine import Affine
from cmmulti.parameterization import EDM
from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.folder import Piece
from cmmulti.randomness import SampleRandomness, key

LENGTH = 16


def wave(label: int, seed: int) -> Tensor:
    """A slow or a fast sine of random phase, with a little noise."""
    generator = torch.Generator().manual_seed(key(label, seed))
    phase, noise = torch.rand(1, generator=generator) * 6.28, torch.randn(LENGTH, generator=generator)
    return (torch.sin(torch.arange(LENGTH) * (0.4 + 1.2 * label) + phase) + 0.05 * noise)[None]


class Waves(TrainingSet):
    """Half of them of each class; without labels where ``labelled`` is false."""

    def __init__(self, split: Split, n: int = 64, labelled: bool = True) -> None:
        self.first = {"train": 0, "val": 10_000, "test": 20_000}[split]
        self.names = [f"{split} {i}" for i in range(n)]
        self.labels = torch.arange(n) % 2 if labelled else torch.full((n,), -1)
        self.class_names = ["slow", "fast"]

    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        x = self.item(index)
        return x if generator is None else x * (0.9 + 0.2 * torch.rand(1, generator=generator))

    def item(self, index: int) -> Tensor:
        return wave(index % 2, self.first + index)


class WaveModality(Modality):
    """Items are the tensors themselves; ``lossy`` ones forget their sign of time, as sound forgets its phase."""

    name = "waves"
    Settings = ModalitySettings
    extension = ".txt"
    lossy = False
    labelled = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, LENGTH)

    @property
    def valid_range(self) -> tuple[float, float]:
        return (-2.0, 2.0)

    def load(self, path: Path) -> Tensor:
        return torch.tensor([float(v) for v in path.read_text().split()])[None]

    def encode(self, item: Tensor) -> Tensor:
        # One sample less, as framing may have it.
        return item[None, :, :-1] if self.lossy else item[None]

    def decode(self, x: Tensor, like: Tensor | None = None, randomness: SampleRandomness | None = None) -> Tensor:
        return x[0].round(decimals=1) if self.lossy else x[0]

    def save(self, item: Tensor, path: Path) -> Path:
        path.write_text(" ".join(f"{v:.4f}" for v in item.flatten().tolist()))
        return path

    def render(self, panels: Mapping[str, Tensor], reference: str | None = None, mark: Any = None) -> list[Media]:
        return []

    def affine(self, item: Tensor) -> Affine | None:
        return None if self.lossy else Affine(torch.ones(1, 1, 1), torch.zeros(1, 1, 1), (LENGTH,), (0,))

    def metrics(self, result: Tensor, truth: Tensor, mark: Any = None) -> dict[str, float]:
        return {"psnr": float(-10 * (result - truth).square().mean().clamp_min(1e-9).log10())}

    def network(self) -> dict[str, Any]:
        return {"dims": 1, "in_channels": 1}

    def dataset(self, source: DataSource, split: Split) -> Waves:
        return Waves(split, labelled=self.labelled)


class Recalls(nn.Module):
    """Answers with a stored wave of the class, whatever it is given: chosen by the first number of its input.

    ``answers`` (classes, n, 1, LENGTH) in units of the network's output at the highest noise level.
    """

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers = nn.Parameter(answers)

    def forward(
        self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
    ) -> Tensor:
        which = (x[:, 0, 0].abs() * 1e4).long() % self.answers.shape[1]
        label = torch.zeros_like(which) if condition.label is None else condition.label
        return self.answers[label, which]


def pipeline(
    answers: Tensor, modality: Modality, classes: int = 2, role: str = "consistency", sigma_max: float = 80.0
) -> Pipeline:
    """A pipeline whose one-step samples are ``answers`` nearly exactly."""
    form = EDM(1.0)
    c_out = form.coefficients(torch.tensor([sigma_max], dtype=torch.float64)).c_out
    model = Model(Recalls(answers / float(c_out)), form, role, sigma_max)  # type: ignore[arg-type]
    config = PipelineConfig(
        name="recalls",
        modality=Piece(name="waves"),
        network=Piece(name="unet"),
        parameterization=Piece(name="edm"),
        role=role,  # type: ignore[arg-type]
        sigma_max=sigma_max,
        classes=["slow", "fast"][:classes],
    )
    return Pipeline(model.eval(), modality, config, "---\ndatasets: [waves]\n---\n# Recalls\n")


def unseen(first: int, n: int = 200) -> Tensor:
    """(2, n, 1, LENGTH) waves that are in no split, by class."""
    return torch.stack([torch.stack([wave(label, first + i) for i in range(n)]) for label in (0, 1)])


def trained_on(n: int = 64) -> Tensor:
    """(2, n / 2, 1, LENGTH): the training set itself, by class."""
    data = Waves("train", n)
    return torch.stack([torch.stack([data.item(i) for i in range(label, n, 2)]) for label in (0, 1)])


class Fill(Task):
    """Half of the wave is hidden; the model fills it. One wave in four is refused."""

    name = "fill"
    verb = "edit"
    summary = "fill the second half"

    class Options(TaskOptions):
        level: float = 80.0

    def prepare(self, modality: WaveModality, source: Path | Tensor, options: Options, model: Model) -> Assignment:
        assert isinstance(source, Tensor)
        if float(source[0, 0]) > 0.7:
            raise UserError("this wave starts too high")
        known = torch.arange(LENGTH) < LENGTH // 2
        return Assignment(
            shape=(1, *modality.shape),
            finish=lambda x, randomness: torch.where(known, source, x[0]),
            mark=~known,
            label=1,
            levels=lambda steps: [options.level, 0.5][:steps],
            baselines={"silence": lambda: torch.where(known, source, 0.0)},
            notes=("half of it was hidden",),
        )


class FillModality(WaveModality):
    tasks = {"fill": Fill()}
