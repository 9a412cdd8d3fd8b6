"""Examples: augmentation by address, bad files by name, sigma_data as measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.training.data import BadBatch, Batch, Examples, RunData, Sample, collate, measured_sigma_data
from cmmulti.training.order import Order, Place
from cmmulti.training.run import train

Config = Callable[..., RunConfig]


def test_augmentation_depends_on_seed_epoch_and_example_alone(toy: ModuleType) -> None:
    examples = Examples(toy.ToySet(8), 0, (1, 8), skip=False)
    x = examples[Place(2, 5)][0]
    examples[Place(0, 1)]
    assert torch.equal(examples[Place(2, 5)][0], x)
    assert not torch.equal(examples[Place(3, 5)][0], x)
    assert not torch.equal(Examples(toy.ToySet(8), 1, (1, 8), skip=False)[Place(2, 5)][0], x)


def test_a_batch_knows_where_it_came_from(toy: ModuleType) -> None:
    examples = Examples(toy.ToySet(8), 0, (1, 8), skip=False)
    batch = collate(examples.__getitems__([Place(0, 4), Place(0, 9)]))
    assert isinstance(batch, Batch)
    assert batch.x.shape == (2, 1, 8)
    assert batch.example.tolist() == [4, 9]
    assert batch.label.tolist() == [1, 0]


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda:0", True)])
def test_batches_are_pinned_for_a_run_on_a_gpu_alone(
    device: str, pinned: bool, toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pinned memory is the GPU's affair: a run on the processor beside it must not touch it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    data = RunData(Examples(toy.ToySet(8), 0, (1, 8), skip=False), Order(8, 0, 4), max_steps=1, workers=0)
    data.trainer = SimpleNamespace(global_rank=0, strategy=SimpleNamespace(root_device=torch.device(device)))
    assert data.train_dataloader().pin_memory == pinned


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("kind", "message"), [("bad", r"toy-3\.bin: truncated"), ("nan", r"toy-3\.bin: holds NaN or infinity")]
)
def test_a_bad_file_stops_the_run_by_name(
    toy_config: Config, tmp_path: Path, workers: int, kind: str, message: str
) -> None:
    config = toy_config(f"data.options.{kind}=[3]", "sigma_data=0.5", f"data.workers={workers}", "trainer.max_steps=20")
    with pytest.raises(UserError, match=f"^{message}"):
        train(config, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.ckpt.*"))


def test_a_bad_file_is_skipped_and_named_when_the_config_says_so(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(toy_config("data.options.bad=[3]", "data.on_bad_file=skip"), tmp_path / "run")
    told = capsys.readouterr().err
    assert told.count("skipped toy-3.bin") == 1
    assert (tmp_path / "run" / "step-00000012.ckpt").is_file()


def test_nothing_readable_ends_the_run(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = Examples(toy.ToySet(8, bad=range(toy.N)), 0, (1, 8), skip=True)
    batch = collate(examples.__getitems__([Place(0, 0)]))
    assert isinstance(batch, BadBatch)
    assert "unreadable files in a row" in batch.reason
    asked: list[int] = []
    read = examples.source.tensor
    monkeypatch.setattr(examples.source, "tensor", lambda i, generator: (asked.append(i), read(i, generator)))
    with pytest.raises(UserError) as caught:
        examples[Place(0, 0)]
    assert str(caught.value).endswith(f"the last {examples.source.names[asked[-1]]}")
    with pytest.raises(UserError, match="no variance"):
        measured_sigma_data(examples)


def test_a_tensor_of_another_shape_is_named(toy: ModuleType) -> None:
    examples = Examples(toy.ToySet(8), 0, (2, 8), skip=False)
    with pytest.raises(UserError, match=r"toy-2\.bin: tensor of shape \(1, 8\); expected \(2, 8\)"):
        examples.tensor(2, None)
    mixed = collate([Sample(torch.zeros(1, 8), 0, 0), Sample(torch.zeros(1, 4), 0, 1)])
    assert isinstance(mixed, BadBatch)
    assert "different shapes" in mixed.reason


def test_sigma_data_is_the_standard_deviation_about_the_mean(toy: ModuleType) -> None:
    source = toy.ToySet(8)
    everything = torch.stack([source.tensor(i, None) for i in range(len(source))])
    measured = measured_sigma_data(Examples(source, 0, (1, 8), skip=False))
    assert measured == pytest.approx(float(everything.std(correction=0)), rel=1e-5)
    few = measured_sigma_data(Examples(source, 0, (1, 8), skip=False), most=4)
    spread = torch.stack([source.tensor(i, None) for i in (0, 9, 18, 27)])
    assert few == pytest.approx(float(spread.std(correction=0)), rel=1e-5)
