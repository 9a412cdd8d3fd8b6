"""One model of two modalities: alternating batches, one network, a folder for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml

from cmmulti.cli import main
from cmmulti.config import RunConfig, resolve, with_overrides
from cmmulti.errors import UserError
from cmmulti.inspection import inspect
from cmmulti.pipeline import Pipeline
from cmmulti.randomness import TrainingRandomness
from cmmulti.training import checkpoint
from cmmulti.training.build import build, order_of
from cmmulti.training.callbacks.log_file import read
from cmmulti.training.callbacks.progress import Progress
from cmmulti.training.data import Batch, collate
from cmmulti.training.dry_run import dry_run
from cmmulti.training.module import TrainingModule
from cmmulti.training.run import train

Config = Callable[..., RunConfig]

LONG = {"modality": {"name": "labelled", "length": 12}, "data": {"name": "toys"}}


@pytest.fixture
def values(toy_values: dict[str, Any]) -> dict[str, Any]:
    """Two labelled modalities of other lengths, and one without labels."""
    plain = {"modality": {"name": "toy"}, "data": {"name": "toys", "batch_size": 2}}
    toy_values["network"].pop("classes")
    return {**toy_values, "modality": {"name": "labelled"}, "joint": {"long": LONG, "plain": plain}}


@pytest.fixture
def joint(values: dict[str, Any]) -> Config:
    return lambda *overrides: resolve(with_overrides(values, overrides))


def test_the_config_fills_in_what_the_network_needs(joint: Config) -> None:
    config = joint()
    assert (config.network.settings["modalities"], config.network.settings["classes"]) == (3, 6)
    assert resolve(config.model_dump(mode="json")) == config
    assert config.joint["long"].data.beside(config.data).batch_size == config.data.batch_size


def test_each_modality_has_its_turn_and_a_batch_is_of_one(joint: Config) -> None:
    parts = build(joint())
    order, again = order_of(parts), order_of(build(joint()))
    seen = []
    for step in range(12):
        batch = collate(parts.examples.__getitems__(order.batch(step)))
        assert isinstance(batch, Batch)
        assert batch.modality is not None
        (which,) = set(batch.modality.tolist())
        seen.append(which)
        assert batch.x.shape == {0: (4, 1, 8), 1: (4, 1, 12), 2: (2, 1, 8)}[which]
        assert {0: {0, 1, 2}, 1: {3, 4, 5}, 2: {-1}}[which] >= set(batch.label.tolist())
        assert order.batch(step) == again.batch(step)
    assert [sorted(seen[i : i + 3]) for i in range(0, 12, 3)] == [[0, 1, 2]] * 4
    assert len({tuple(seen[i : i + 3]) for i in range(0, 12, 3)}) > 1
    places = {p.example for step in range(300) for p in order.batch(step)}
    assert places == set(range(3 * 37))


@pytest.mark.parametrize("where", ["data", "joint.long.data", "joint.plain.data"])
def test_a_dry_run_tries_every_modality(joint: Config, where: str) -> None:
    none = f"{where}.options={{bad: {list(range(37))}}}"
    with pytest.raises(UserError, match=r"toy-\d+\.bin: truncated"):
        dry_run(joint("sigma_data=0.5", none))


def test_the_network_is_told_which(joint: Config) -> None:
    parts = build(joint("label_dropout=1.0"))
    module = TrainingModule(parts.config, parts.model, parts.method, parts.teacher)
    batch = collate(parts.examples.__getitems__(order_of(parts).batch(0)))
    assert isinstance(batch, Batch)
    told = module.condition(batch, TrainingRandomness(0, 0))
    assert torch.equal(told.modality, batch.modality)  # type: ignore[arg-type]
    assert told.label is not None
    assert set(told.label.tolist()) == {-1}  # forgetting a label forgets no modality


def test_trained_exported_and_sampled_by_modality(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("joint.yaml").write_text(yaml.safe_dump(values))
    assert main(["train", "joint.yaml", "--out", "run", "--set", "ema.export=raw"]) == 0
    assert sorted(p.name for p in Path("run/previews").iterdir()) == ["long", "plain", "toys"]
    rows = read(Path("run/log.csv"))
    assert [row["items"] for row in rows] == [round(row["step"] * (4 + 4 + 2) / 3) for row in rows]
    assert inspect(Path("run"))["joint"] == {"long": "labelled", "plain": "toy"}
    capsys.readouterr()
    assert main(["export", "run", "--out", "models"]) == 0
    assert capsys.readouterr().out.splitlines() == ["models/toys", "models/long", "models/plain"]
    assert set(inspect(Path("models"))["models"]) == {"toys", "long", "plain"}
    with pytest.raises(UserError, match="models: a folder of models; expected one of them: models/long, models/plain"):
        Pipeline.from_pretrained("models")
    first, long, plain = (Pipeline.from_pretrained(Path("models") / n) for n in ("toys", "long", "plain"))
    a, b = first.model.network.state_dict(), long.model.network.state_dict()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert [p.config.modality_index for p in (first, long, plain)] == [0, 1, 2]
    assert [p.config.first_label for p in (first, long, plain)] == [0, 3, 6]
    assert [p.config.classes for p in (first, long, plain)] == [["low", "middle", "high"]] * 2 + [[]]
    assert [p.sample(2, 1).items[0].shape for p in (first, long, plain)] == [(1, 8), (1, 12), (1, 8)]
    assert long.condition([1, None]).label.tolist() == [4, -1]  # type: ignore[union-attr]
    assert plain.condition([None]).modality.tolist() == [2]  # type: ignore[union-attr]
    x = torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(0))
    answers = [p.model.denoise(x, 1.0, p.condition([None])) for p in (first, plain)]
    assert not torch.equal(*answers)
    assert "| learned together with | toys, plain |" in Path("models/long/README.md").read_text()
    assert "| classes | none |" in Path("models/plain/README.md").read_text()


def test_the_time_that_is_left_is_that_of_batches_of_all_modalities(
    joint: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten steps of 8 items on average, of 4, 4 and 16, at 8 items a second."""
    config = joint("log.every_steps=1", "joint.plain.data.batch_size=16")
    rows = SimpleNamespace(latest={"step": 2, "loss": 1.0, "items_per_second": 8.0})
    module = SimpleNamespace(step=2, config=config, stage_message="")
    progress = Progress(cast(Any, rows), cast(Any, SimpleNamespace(latest={})))
    progress.after_step(cast(Any, SimpleNamespace(is_global_zero=True)), cast(Any, module))
    assert "0:00:10 left" in capsys.readouterr().err


def test_a_resumed_joint_run_ends_bit_identical(joint: Config, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "stopped"
    train(joint(), whole)
    train(joint(), run)
    for step in (8, 12):
        (run / f"step-{step:08d}.ckpt").unlink()
    train(joint(), run, resume=True)
    a, b = (checkpoint.load(folder / "step-00000012.ckpt")["model"] for folder in (whole, run))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_joint_teacher_is_distilled_into_a_joint_student(joint: Config, tmp_path: Path) -> None:
    from cmmulti.training.export import export

    train(joint("trainer.max_steps=2"), tmp_path / "teacher")
    export(tmp_path / "teacher", tmp_path / "model")
    student = joint("method={name: ect}", f"init={tmp_path / 'model'}")
    assert build(student).model.parameterization.sigma_data == pytest.approx(build(joint()).config.sigma_data)
    with pytest.raises(UserError, match="of another architecture"):
        build(joint("method={name: ect}", f"init={tmp_path / 'model'}", "joint={}"))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("joint.long.modality.lenght=3", "joint.long.modality: unknown key 'lenght'"),
        ("joint.long.modality.name=none", "joint.long.modality.name: unknown modality 'none'"),
        ("network.classes=4", "network.classes = 4: expected 6 for these modalities together"),
        ("joint.long.modality={name: image, size: [8, 8], channels: 1}", "joint.long: tensors with dims = 2; expected 1"),
        ("joint.toys={modality: {name: toy}, data: {name: toys}}", "joint.toys: the name of data.name"),
        ("joint.long.data.batch_size=3", "joint.long.data.batch_size = 3: expected a multiple"),
    ],
)
def test_mistakes_are_told_by_their_key(joint: Config, override: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        joint(override, *(["trainer.accumulate=2"] if "batch_size" in override else []))
    assert told in str(caught.value)


def test_the_network_of_a_joint_model_is_written_out(joint: Config) -> None:
    """What `init` has for a network says nothing of these modalities before it is loaded."""
    with pytest.raises(UserError, match=r"^config: network\.name = 'init': expected the name and settings of a network"):
        joint("network={name: init}", "init=model")
