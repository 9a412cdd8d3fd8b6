"""A modality and a method of a few numbers, so that the trainer is tested without files. Also a command line with both."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from cmmulti import registry
from cmmulti.conditioning import Condition
from cmmulti.errors import UserError
from cmmulti.media import Media, Picture
from cmmulti.methods.base import Loss, Method, MethodSettings, Progress, Recommended, StageEvent
from cmmulti.modality import DataSource, Modality, ModalitySettings, Split, TrainingSet
from cmmulti.model import Model
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import EDM, Parameterization
from cmmulti.randomness import SampleRandomness, TrainingRandomness, key

N = 37


class ToySettings(ModalitySettings):
    """``level`` stands for what an adapter measures, such as the loudness of clips; nothing is done with it."""

    length: int = 8
    level: float | None = None


class ToySet(TrainingSet):
    """Noise of standard deviation 0.5 around 0.25; names listed in ``bad`` cannot be read, ``nan`` holds NaN."""

    licence = "CC0-1.0"
    attribution = "Toys of nobody"

    def __init__(self, length: int, bad: Sequence[int] = (), nan: Sequence[int] = ()) -> None:
        self.length, self.bad, self.nan = length, set(bad), set(nan)
        self.labels = torch.arange(N) % 3
        self.names = [f"toy-{i}.bin" for i in range(N)]
        self.class_names = ["low", "middle", "high"]

    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        if index in self.bad:
            raise UserError(f"{self.names[index]}: truncated")
        own = torch.Generator().manual_seed(key("toy", index))
        x = 0.25 + 0.5 * torch.randn(1, self.length, generator=own)
        if index in self.nan:
            x[0, 0] = float("nan")
        if generator is not None:
            x = x + 0.01 * torch.randn(x.shape, generator=generator)
        return x

    def item(self, index: int) -> Tensor:
        return self.tensor(index, None)


class ToyModality(Modality):
    name = "toy"
    Settings = ToySettings
    extension = ".bin"
    settings: ToySettings

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.settings.length)

    def load(self, path: Path) -> Tensor:
        raise NotImplementedError

    def encode(self, item: Tensor) -> Tensor:
        return item[None]

    def decode(self, x: Tensor, like: Any = None, randomness: SampleRandomness | None = None) -> Tensor:
        return x[0]

    def save(self, item: Tensor, path: Path) -> Path:
        raise NotImplementedError

    def render(self, panels: Mapping[str, Tensor], reference: str | None = None, mark: Any = None) -> list[Media]:
        rows = torch.cat(list(panels.values())).clamp(-1, 1).add(1).mul(127.5).byte()
        buffer = io.BytesIO()
        Image.fromarray(rows.numpy()).save(buffer, "PNG")
        return [Picture(buffer.getvalue(), ", ".join(panels))]

    def network(self) -> dict[str, Any]:
        return {"dims": 1, "in_channels": 1, "channels": [8], "groups": 4}

    def dataset(self, source: DataSource, split: Split) -> TrainingSet:
        if source.name != "toys":
            raise UserError(f"data.name = {source.name!r}: expected 'toys'")
        return ToySet(self.settings.length, **source.options)


class Labelled(ToyModality):
    """Tells the network its three classes, as an adapter of labelled data does."""

    name = "labelled"

    def network(self) -> dict[str, Any]:
        return {**super().network(), "classes": 3}


class PlainSettings(MethodSettings):
    """``fail_at``: steps at which the second sample's loss is NaN, on process ``fail_on`` if that is given.
    ``fail_back_at``: steps at which the loss is finite, but its gradient is not. ``kill_at``: step in which process
    ``kill_on`` is sent SIGTERM."""

    fail_at: int | tuple[int, ...] = -1
    fail_on: int | None = None
    fail_back_at: tuple[int, ...] = ()
    kill_at: int = -1
    kill_on: int = 0
    reset_at: int = -1


class Plain(Method):
    """Denoising at one noise level without a random number, so that gradients do not depend on how a batch is cut up."""

    Settings = PlainSettings
    role: ClassVar[Any] = "teacher"
    paper = "none"
    shards = True
    settings: PlainSettings

    def parameterization(self, sigma_data: float) -> Parameterization:
        return EDM(sigma_data)

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        sigma = torch.full((len(x0),), 0.5, device=x0.device)
        noise = torch.cos(7 * x0)
        error = (model.denoise(x0 + 0.5 * noise, sigma, condition) - x0).square().flatten(1).mean(1)
        settings, at = self.settings, self.settings.fail_at
        if (progress.step, randomness.rank) == (settings.kill_at, settings.kill_on):
            os.kill(os.getpid(), signal.SIGTERM)
        here = settings.fail_on is None or settings.fail_on == randomness.rank
        if here and progress.step in (at if isinstance(at, tuple) else (at,)):
            error = error * torch.where(torch.arange(len(x0)) == 1, torch.nan, 1.0)
        loss = Loss.mean(error, sigma)
        if progress.step in settings.fail_back_at:
            loss = replace(loss, value=loss.value + (loss.value - loss.value.detach()).sqrt())
        return loss

    def after_step(self, model: Model, progress: Progress) -> StageEvent | None:
        return StageEvent("second stage", reset_optimizer=True) if progress.step == self.settings.reset_at else None

    def recommended(self) -> Recommended:
        return Recommended(optimizer="adam", learning_rate=1e-2, ema=(0.1, 0.5))


class NeedsTeacher(Plain):
    needs_teacher = True


class Another(UNet):
    """Takes classes, but is not the network that adapters have settings for."""


class Deaf(UNet):
    """Knows of no classes."""

    def __init__(self, dims: int, in_channels: int, channels: Sequence[int], groups: int) -> None:
        super().__init__(dims, in_channels, channels, groups=groups)


def entries(original: Callable[[str], dict[str, EntryPoint]]) -> Callable[[str], dict[str, EntryPoint]]:
    """The registry with the toys in it."""
    extra = {
        "modalities": {"toy": "ToyModality", "labelled": "Labelled"},
        "methods": {"plain": "Plain", "needs-teacher": "NeedsTeacher"},
        "networks": {"another": "Another", "deaf": "Deaf"},
    }

    def patched(group: str) -> dict[str, EntryPoint]:
        added = {n: EntryPoint(n, f"{__name__}:{o}", f"cmmulti.{group}") for n, o in extra.get(group, {}).items()}
        return {**original(group), **added}

    return patched


def register() -> None:
    """Put the toys into this process's registry."""
    sys.modules["toy"] = sys.modules[__name__]
    registry._entries = entries(registry._entries)  # type: ignore[assignment]
    torch.set_num_threads(1)


if __name__ == "__main__":
    register()
    if os.environ.get("TOY_SLOW"):
        import time

        original = ToySet.tensor

        def slow(self: ToySet, index: int, generator: torch.Generator | None) -> Tensor:
            time.sleep(float(os.environ["TOY_SLOW"]) if generator is not None else 0)
            return original(self, index, generator)

        ToySet.tensor = slow  # type: ignore[method-assign]
    from cmmulti.cli import main

    # Several configs may be trained in turn by the same processes: words are separated by "then".
    words, code = sys.argv[1:], 0
    while words and code == 0:
        cut = words.index("then") if "then" in words else len(words)
        code = main(words[:cut])
        words = words[cut + 1 :]
    sys.exit(code)
