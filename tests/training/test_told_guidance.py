"""A network that hears a guidance weight hears one wherever it is asked, in training and after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.nn.embedding import ConditionEmbedding
from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.config import Piece
from cmmulti.training.build import build, pipeline_config
from cmmulti.training.export import export
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
STUDENT = (
    "modality.name=labelled", "network.guided=true", "trainer.max_steps=2", "preview.every_steps=1", "preview.n=1",
    "validation={every_steps: 1, n: 4}",
)  # fmt: skip


@pytest.fixture
def teacher(toy_config: Config, tmp_path: Path) -> Path:
    train(toy_config("modality.name=labelled", "trainer.max_steps=1", "preview.every_steps=0"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.mark.parametrize(("weights", "plain"), [((2.0, 3.0), 2.0), ((0.0, 0.5), 0.5), ((0.5, 4.0), 1.0)])
def test_every_evaluation_is_told_one(
    toy_config: Config,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: tuple[float, float],
    plain: float,
) -> None:
    """Training, previews and held-out items, and samples: the nearest of the known weights to 1 where none is asked for."""
    heard: list[Tensor] = []
    embed = ConditionEmbedding._embed

    def listening(self: ConditionEmbedding, time: Tensor, condition: Condition, time_next: Tensor | None) -> Tensor:
        if self.guidance_in is not None and time.device.type != "meta":
            assert condition.guidance is not None
            heard.append(condition.guidance)
        return embed(self, time, condition, time_next)

    config = toy_config(*STUDENT, f"method={{name: cd, guidance: {list(weights)}}}", f"teacher={teacher}")
    build(config)  # whose own check tells no weight
    monkeypatch.setattr(ConditionEmbedding, "_embed", listening)
    monkeypatch.setattr("cmmulti.training.build.check_network", lambda *_: None)
    train(config, tmp_path / "student")
    assert all(weights[0] <= float(w.min()) and float(w.max()) <= weights[1] for w in heard)
    assert len(heard) > 10
    export(tmp_path / "student", tmp_path / "model")
    pipe = Pipeline.from_pretrained(tmp_path / "model")
    assert pipe.config.guidance == weights
    heard.clear()
    pipe.sample(2, 2)
    assert {float(v) for w in heard for v in w} == {plain}
    heard.clear()
    pipe.sample(1, 1, guidance=weights[1])
    assert [w.tolist() for w in heard] == [[weights[1]]]
    with pytest.raises(UserError, match=r"guidance: expected .* the weights of its training, got 9"):
        pipe.sample(1, 1, guidance=9.0)


def test_a_network_that_is_told_none_knows_it_as_1() -> None:
    embedding = ConditionEmbedding(16, guided=True)
    time = torch.tensor([0.3, 1.0])
    torch.testing.assert_close(embedding(time, Condition()), embedding(time, Condition(guidance=torch.ones(2))))


def test_a_student_that_hears_weights_is_no_teacher(toy_config: Config, teacher: Path, tmp_path: Path) -> None:
    """What it was trained on cannot be told by a method that knows no weights."""
    train(toy_config(*STUDENT, "method={name: cd, guidance: [2, 3]}", f"teacher={teacher}"), tmp_path / "student")
    export(tmp_path / "student", tmp_path / "model")
    with pytest.raises(
        UserError, match=r"model: a network with a guidance weight of 2 to 3 as an input; expected a teacher"
    ):
        build(toy_config(*STUDENT, "method.name=tcm", f"init={tmp_path / 'model'}"))


@pytest.mark.parametrize("weights", [(3.0, 1.0), (-1.0, 2.0), (1.0, float("inf"))])
def test_a_folder_with_a_range_that_is_none_is_refused(weights: tuple[float, float]) -> None:
    toy = Piece(name="toy")
    with pytest.raises(ValueError, match="guidance: expected two weights"):
        PipelineConfig(modality=toy, network=toy, parameterization=toy, role="consistency", guidance=weights)


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["label_dropout=0"], "label_dropout = 0: expected above 0"),
        (["modality.name=toy", "network.classes=0"], r"method\.omega, method\.kappa: expected 1 and 0"),
    ],
)
def test_a_network_that_guides_itself_is_trained_without_labels_too(toy_config: Config, sets: list[str], told: str) -> None:
    """Its answers without a label would be those of an embedding that no step has moved."""
    run = ("modality.name=labelled", "network.two_times=true")
    build(toy_config(*run, "method={name: meanflow, omega: 2}"))
    build(toy_config(*run, "method={name: meanflow}", *sets))
    with pytest.raises(UserError, match=told):
        build(toy_config(*run, "method={name: meanflow, omega: 2}", *sets))


@pytest.mark.parametrize(("settings", "unconditional"), [("omega: 2", False), ("omega: 1", True)])
def test_a_network_that_guided_itself_is_not_asked_without_a_label(
    toy_config: Config, settings: str, unconditional: bool
) -> None:
    """Without one it has learned what guided it, no jump."""
    parts = build(toy_config("modality.name=labelled", "network.two_times=true", f"method={{name: meanflow, {settings}}}"))
    config = pipeline_config(parts.config, parts.method, parts.shares[0], ["a", "b", "c"])
    assert config.unconditional is unconditional
    pipe = Pipeline(parts.model, parts.modality, config)
    assert pipe.condition([0]).label is not None
    if not unconditional:
        with pytest.raises(UserError, match=r"label: expected 0 to 2: this model never learned .* guidance of its own"):
            pipe.condition([None])
