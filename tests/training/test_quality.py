"""Figures of quality have the values that theory gives them, tell diseases apart, and leave a run as it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.parameterization import EDM
from cmmulti.training import checkpoint
from cmmulti.training.callbacks.log_file import RANGES, read
from cmmulti.training.quality import LEVELS, HeldOut, energy_distance, errors, generated, roughness, within
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
SD = 0.5


class Answer(nn.Module):
    """The network whose EDM estimate of noisy ``x`` is ``estimate(x, sigma)``."""

    def __init__(self, estimate: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.estimate = estimate

    def forward(self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION) -> Tensor:
        sigma = (4 * time).exp().view(-1, *[1] * (x.dim() - 1))
        noisy = x * (sigma**2 + SD**2).sqrt()
        skip, out = SD**2 / (sigma**2 + SD**2), sigma * SD / (sigma**2 + SD**2).sqrt()
        return (self.estimate(noisy, sigma) - skip * noisy) / out


def model(estimate: Callable[[Tensor, Tensor], Tensor], role: str = "consistency") -> Model:
    return Model(Answer(estimate), EDM(SD), role)  # type: ignore[arg-type]


def items(n: int = 6 * 64, smooth: bool = False) -> HeldOut:
    """Gaussian rows of deviation SD; ``smooth`` ones are linear in position."""
    draw = torch.Generator().manual_seed(0)
    x = SD * torch.randn(n, 1, 32, generator=draw)
    if smooth:
        x = SD * torch.randn(n, 1, 1, generator=draw) * torch.linspace(-(3**0.5), 3**0.5, 32)
    return HeldOut(x, torch.arange(n) % 3, torch.randn(n, 1, 32, generator=draw))


def test_the_error_of_a_denoiser_and_of_a_consistency_function() -> None:
    """Of a Gaussian: 1 for the posterior mean, and ``2 (1 - s / r) r^2 / sigma^2`` with ``r^2 = s^2 + sigma^2`` for f."""
    mean = errors(model(lambda x, s: SD**2 / (SD**2 + s**2) * x), items(), False, SD, 0, 80)
    ends = errors(model(lambda x, s: SD / (SD**2 + s**2).sqrt() * x), items(), False, SD, 0, 80)
    assert list(mean) == [f"error_{r}" for r in RANGES]
    for name, sigma in zip(mean, LEVELS, strict=True):
        root = math.hypot(SD, sigma)
        assert mean[name] == pytest.approx(1, rel=0.08), name
        assert ends[name] == pytest.approx(2 * (1 - SD / root) * root**2 / sigma**2, rel=0.08), name
    assert list(errors(model(lambda x, s: x), items(), False, SD, 1.0, 80.0)) == ["error_1_3", "error_3_10", "error_10_max"]
    assert set(errors(model(lambda x, s: x * math.nan), items(), False, SD, 0, 80).values()) == {math.inf}


def test_samples_of_noise_and_a_single_sample_are_told_apart() -> None:
    real = items(64, smooth=True)
    ramp = torch.linspace(-(3**0.5), 3**0.5, 32)
    answers: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "good": lambda x, s: SD / (s**2 + SD**2).sqrt() * (x * ramp).sum(-1, keepdim=True) / ramp.norm() * ramp,
        "noise": lambda x, s: SD * x / s,
        "collapse": lambda x, s: 0 * x + 1e-3 * x / s + SD * ramp,
    }
    found = {name: generated(model(answer), real, False, None) for name, answer in answers.items()}
    assert found["good"]["spread"] == pytest.approx(1, abs=0.25)
    assert abs(found["good"]["noise"]) < 0.02
    assert found["good"]["distance"] < 0.1
    assert found["noise"]["noise"] == pytest.approx(1, abs=0.05)
    assert found["collapse"]["spread"] < 0.01
    assert abs(found["collapse"]["noise"]) < 0.02
    assert min(found[name]["distance"] for name in ("noise", "collapse")) > 3 * found["good"]["distance"]
    broken = generated(model(lambda x, s: x * math.nan), real, False, None)
    assert set(broken.values()) == {math.inf}


def test_a_spread_over_the_means_of_classes_is_none() -> None:
    label = torch.arange(60) % 3
    x = label.float().view(-1, 1, 1).expand(-1, 1, 8)
    assert within(x, label) == 0
    assert within(x, torch.zeros_like(label)) > 0.5
    assert math.isnan(within(x[:1], label[:1]))


def test_roughness_and_energy_distance() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(50, 2, 16, 16, generator=draw)
    assert roughness(noise) == pytest.approx(1, abs=0.02)
    assert roughness(torch.linspace(0, 1, 64).expand(2, 1, 64)) < 0.01
    assert roughness(torch.ones(2, 1, 5)) == 0
    assert abs(energy_distance(noise[:25], noise[25:])) < 0.02
    # Of two single points at distance 3 from two pairs each 1 apart: (2 * 3 - 1 - 1) / 1, up to the geometry.
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[10.0], [11.0]])
    assert energy_distance(a, b) == pytest.approx((2 * 10 - 1 - 1) / 1)


def test_a_run_is_measured_and_left_as_it_is(toy_config: Config, tmp_path: Path) -> None:
    common = ("optimizer={name: adam, learning_rate: 0.01}", "preview.every_steps=0")
    every = ("validation={every_steps: 6, n: 24}", *common)
    train(toy_config(*every), tmp_path / "with")
    torch.manual_seed(9)
    train(toy_config("validation.every_steps=0", *common), tmp_path / "without")
    states = [checkpoint.load(tmp_path / name / "step-00000012.ckpt")["model"] for name in ("with", "without")]
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert not (tmp_path / "without" / "validation.csv").exists()
    path = tmp_path / "with" / "validation.csv"
    rows = read(path)
    assert [row["step"] for row in rows] == [0, 6, 12]
    assert rows[0]["error"] == rows[0]["raw_error"] == pytest.approx(1, abs=0.3)
    assert rows[2]["error"] < 0.97 * rows[0]["error"]
    assert rows[2]["error"] != rows[2]["raw_error"]
    assert all(math.isfinite(row["spread"]) and math.isfinite(row["distance"]) for row in rows)
    before = path.read_text()
    (tmp_path / "with" / "step-00000012.ckpt").unlink()
    train(toy_config(*every), tmp_path / "with", resume=True)
    assert path.read_text() == before


def test_data_that_hold_nothing_back(
    toy_config: Config, toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = toy.ToyModality.dataset

    def dataset(self: object, source: object, split: str) -> object:
        if split == "val":
            raise UserError("toys: no validation split")
        return whole(self, source, split)

    monkeypatch.setattr(toy.ToyModality, "dataset", dataset)
    train(toy_config("trainer.max_steps=2"), tmp_path / "run")
    assert not (tmp_path / "run" / "validation.csv").exists()
    assert "quality is not measured: toys: no validation split" in capsys.readouterr().err
