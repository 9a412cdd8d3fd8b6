"""Contexts in training: from a file to the network, forgotten at times, on a scale that the model keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from runs import assert_identical, final, flat, in_two_processes

from cmmulti.conditioning import NO_CONDITION
from cmmulti.config import PieceConfig, RunConfig
from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import EDM
from cmmulti.randomness import TrainingRandomness
from cmmulti.training.build import build, order_of
from cmmulti.training.contexts import files_below, with_width
from cmmulti.training.data import Batch, collate
from cmmulti.training.export import export
from cmmulti.training.folder import read_record
from cmmulti.training.module import TOGETHER, TrainingModule
from cmmulti.training.network_check import check_network
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
LEVELS = np.linspace(-3, 5, 37)
"""The context of each toy, in a unit of its own."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "contexts.csv"
    path.write_text("file,level\n" + "".join(f"toy-{i}.bin,{v}\n" for i, v in enumerate(LEVELS)))
    return path


@pytest.fixture
def with_context(toy_config: Config, file: Path) -> Config:
    return lambda *overrides: toy_config(f"data.context={file}", *overrides)


def first_batch(config: RunConfig) -> tuple[TrainingModule, Batch]:
    parts = build(config)
    module = TrainingModule(parts.config, parts.model, parts.method, parts.teacher)
    batch = collate(parts.examples.__getitems__(order_of(parts).batch(0)))
    assert isinstance(batch, Batch)
    return module, batch


def test_each_item_comes_with_its_context_and_the_network_is_told(with_context: Config) -> None:
    module, batch = first_batch(with_context("label_dropout=0"))
    assert module.config.network.settings["context_width"] == 2
    want = torch.from_numpy((LEVELS[batch.example.numpy()] - LEVELS.mean()) / LEVELS.std())
    assert batch.context is not None
    torch.testing.assert_close(batch.context[:, 0, 0], want.float(), rtol=1e-4, atol=1e-5)
    told = module.condition(batch, TrainingRandomness(0, 0))
    assert told.context is batch.context
    assert told.label is batch.label


def test_how_often_label_and_context_are_forgotten(with_context: Config) -> None:
    """Each with the share p, together p/2 + p^2/2, so that each alone has p/2 (1 - p)."""
    share = 0.2
    module, batch = first_batch(with_context(f"label_dropout={share}"))
    many = Batch(*(None if v is None else v[:1].expand(20_000, *v.shape[1:]) for v in batch))  # type: ignore[arg-type]
    told = module.condition(many, TrainingRandomness(0, 0))
    assert told.label is not None
    assert told.context is not None
    label, context = told.label == -1, (told.context == 0).flatten(1).all(1)
    both = float((label & context).float().mean())
    assert float(label.float().mean()) == pytest.approx(share, abs=0.01)
    assert float(context.float().mean()) == pytest.approx(share, abs=0.01)
    assert both == pytest.approx(TOGETHER * share + (1 - TOGETHER) * share**2, abs=0.01)
    assert torch.equal(told.unconditional(many.x), label & context)


def test_a_context_without_classes_is_forgotten_too(with_context: Config) -> None:
    module, batch = first_batch(with_context("label_dropout=1.0", "network.classes=0"))
    told = module.condition(batch, TrainingRandomness(0, 0))
    assert told.label is None
    assert told.context is not None
    assert not told.context.any()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_ends_bit_identical(with_context: Config, tmp_path: Path, workers: int) -> None:
    train(with_context(f"data.workers={workers}"), tmp_path / "whole")
    run = tmp_path / "stopped"
    train(with_context(), run)
    for path in (run / "step-00000008.ckpt", run / "step-00000012.ckpt"):
        path.unlink()
    train(with_context(f"data.workers={workers}"), run, resume=True)
    assert_identical(final(tmp_path / "whole"), final(run))


def test_a_run_with_another_file_of_contexts_is_another_run(with_context: Config, file: Path, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved.csv"
    train(with_context("trainer.max_steps=4"), run)
    moved.write_text(file.read_text())
    train(with_context("trainer.max_steps=5", f"data.context={moved}"), run, resume=True)
    moved.write_text(file.read_text().replace("toy-36.bin,5", "toy-36.bin,6"))
    with pytest.raises(UserError, match=r"--resume with data\.context of other columns, means or deviations"):
        train(with_context("trainer.max_steps=6", f"data.context={moved}"), run, resume=True)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["network.context_width=5"], r"network\.context_width = 5: expected 2, the 1 features of .*contexts\.csv"),
        (["joint={b: {modality: {name: toy}, data: {name: toys}}}"], r"data\.context = .*: expected none for a model of"),
        (["data.context=none.csv"], r"none\.csv: no such file"),
        (["data.context=null", "network.context_width=2"], r"network\.context_width = 2: expected 0 without data\.context"),
    ],
)
def test_what_does_not_fit_is_refused(with_context: Config, overrides: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        build(with_context(*overrides))
    assert "\n" not in str(caught.value)


class Deaf(UNet):
    """Takes the setting and no notice of it."""

    def forward(self, x: Any, time: Any, condition: Any = NO_CONDITION, time_next: Any = None) -> Any:
        return super().forward(x, time, NO_CONDITION, time_next)


def test_a_network_that_hears_no_context_is_refused(with_context: Config, toy: ModuleType) -> None:
    parts = build(with_context())
    modality = toy.ToyModality(toy.ToySettings())
    check_network(Model(UNet(1, 1, (8,), context_width=2), EDM()), modality, context=parts.scale)
    with pytest.raises(UserError, match=r"makes no use of the contexts of data\.context"):
        check_network(Model(Deaf(1, 1, (8,), context_width=2), EDM()), modality, context=parts.scale)
    config = parts.config.model_copy(update={"network": PieceConfig.of("translated", {"network": {"name": "unet"}})})
    with pytest.raises(UserError, match=r"network\.name = 'translated': takes no context"):
        with_width(config, parts.contexts)


def test_a_network_in_another_form_hears_contexts_as_its_own_did(with_context: Config, tmp_path: Path) -> None:
    train(with_context("trainer.max_steps=1"), tmp_path / "run")
    pipe = export(tmp_path / "run", tmp_path / "model")
    config = with_context("network={name: init}", "method={name: sct}", f"init={tmp_path / 'model'}")
    parts = build(config)
    assert parts.config.network.name == "translated"
    x, condition = torch.randn(2, 1, 8), pipe.condition([0, 1], None, pipe.contexts_for([0, 1], {"level": 2.0}))
    answers = [model.eval().endpoint(x, 1.0, condition) for model in (pipe.model, parts.model)]
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-5)


def test_an_item_without_a_context_is_named(with_context: Config, file: Path) -> None:
    file.write_text(file.read_text().replace("toy-7.bin", "toy-seven.bin"))
    with pytest.raises(UserError, match=r"contexts\.csv: no context for 'toy-7\.bin'"):
        build(with_context())


def test_files_are_named_from_the_data_folder_on() -> None:
    @dataclass
    class Named:
        files: list[str]

    assert files_below("/d", Named(["/d/a/1.png", "x.nii", "/e/d/2.png"])) == ["a/1.png", "x.nii", "/e/d/2.png"]  # type: ignore[arg-type]
    assert files_below("/d.zip", Named(["/d.zip:a/1.png"])) == ["a/1.png"]  # type: ignore[arg-type]


def test_a_model_without_contexts_refuses_one(toy_config: Config, tmp_path: Path) -> None:
    train(toy_config("trainer.max_steps=1"), tmp_path / "run")
    pipe = export(tmp_path / "run", tmp_path / "model")
    assert "context" not in (tmp_path / "model" / "config.json").read_text()
    with pytest.raises(UserError, match="expected none: this model knows no contexts"):
        pipe.generate([0], [80.0], context={"age": 60})


def test_a_run_from_a_model_with_contexts_needs_them(with_context: Config, tmp_path: Path) -> None:
    train(with_context("trainer.max_steps=1"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "model")
    with pytest.raises(UserError, match=r"init = .*: takes contexts, level; expected data\.context"):
        build(with_context("data.context=null", f"init={tmp_path / 'model'}"))


@pytest.mark.parametrize("method", ["sct", "ect"])
def test_a_network_of_init_that_knows_no_contexts_is_told_as_such(
    toy_config: Config, with_context: Config, tmp_path: Path, method: str
) -> None:
    """Translated or not: what was asked for is the network of `init`, whatever that is called inside."""
    train(toy_config("trainer.max_steps=1"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "model")
    config = with_context("network={name: init}", f"method={{name: {method}}}", f"init={tmp_path / 'model'}")
    with pytest.raises(UserError, match=r"^init = .*model': its network was trained without contexts; expected one with"):
        build(config)


def test_two_processes_train_with_contexts(with_context: Config, tmp_path: Path) -> None:
    """Each with those of its own half of the batch: the steps are those of one process with the whole."""
    sets = ("method.name=plain", "label_dropout=0", "data.batch_size=8", "network.dropout=0", "preview.every_steps=12")
    config = with_context(*sets)
    train(config, tmp_path / "one")
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    words = ["train", str(file), "--out", str(tmp_path / "two"), "--set", "trainer.devices=2"]
    codes, told = in_two_processes([*words, "--set", "trainer.max_steps=12"])
    assert codes == [0, 0], told
    one, two = (flat(final(tmp_path / run)["model"]) for run in ("one", "two"))
    assert any("context_in" in name and bool(value.any()) for name, value in one.items())
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-3, atol=1e-4, msg=name)
    assert read_record(tmp_path / "two").context == read_record(tmp_path / "one").context
