"""What a run is made from: teachers that never saw unlabelled samples, other units, other weights, other data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.pipeline import Pipeline
from cmmulti.training.build import build
from cmmulti.training.export import export
from cmmulti.training.origins import stated_licence
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
QUICK = ("modality.name=labelled", "trainer.max_steps=1", "preview.every_steps=0", "validation.every_steps=0")


@pytest.fixture
def made(toy_config: Config, tmp_path: Path) -> Callable[..., Path]:
    """A denoiser of one step, by name, with overrides of its config."""

    def make(name: str, *sets: str) -> Path:
        train(toy_config(*QUICK, *sets), tmp_path / f"run-{name}")
        export(tmp_path / f"run-{name}", tmp_path / name)
        return tmp_path / name

    return make


def test_a_model_that_never_learned_unlabelled_samples_is_asked_for_none(made: Callable[..., Path]) -> None:
    plain, labelled = (Pipeline.from_pretrained(made(f"drop-{share}", f"label_dropout={share}")) for share in (0.1, 0))
    assert plain.sample(1, 2, guidance=2.0, label=1).nfe == 6  # Heun over two levels, twice
    plain.condition([None])
    labelled.sample(1, 2, label=1)
    assert not labelled.can_be_guided
    with pytest.raises(UserError, match=r"guidance: expected none, got 2: this model never learned samples without one"):
        labelled.sample(1, 2, guidance=2.0, label=1)
    with pytest.raises(UserError, match=r"label: expected 0 to 2: this model never learned"):
        labelled.condition([1, None])


def test_only_what_there_is_to_tell_is_written(made: Callable[..., Path]) -> None:
    """Earlier versions, which do not know the key, read a model that was trained with dropped labels."""
    told = [json.loads((made(f"drop-{share}", f"label_dropout={share}") / "config.json").read_text()) for share in (0.1, 0)]
    assert "unconditional" not in told[0]
    assert told[1]["unconditional"] is False


def test_a_student_asks_no_more_of_its_teacher_than_that_has_learned(toy_config: Config, made: Callable[..., Path]) -> None:
    teacher = made("teacher", "label_dropout=0")
    student = (*QUICK, f"teacher={teacher}", "label_dropout=0")
    assert build(toy_config(*student, "method={name: cd}")).teacher is not None
    with pytest.raises(UserError, match=r"method\.guidance: expected none: the teacher .*teacher never learned"):
        build(toy_config(*student, "method={name: cd, guidance: 2}"))
    with pytest.raises(UserError, match=r"label_dropout = 0\.1: expected 0: of samples without a label"):
        build(toy_config(*student, "method={name: cd}", "label_dropout=0.1"))
    # One that only starts from it learns such samples from the data.
    build(toy_config(*QUICK, f"init={teacher}", "method={name: ect}", "label_dropout=0.1"))


def test_a_method_that_listens_to_no_teacher_is_given_none(toy_config: Config, made: Callable[..., Path]) -> None:
    """It would train from scratch, and its card would say who taught it."""
    with pytest.raises(UserError, match=r"^teacher = .*: method ect has no teacher; expected null, and `init` to start"):
        build(toy_config(*QUICK, "method={name: ect}", f"teacher={made('teacher')}"))


def test_a_student_works_in_the_units_of_its_teacher(toy_config: Config, made: Callable[..., Path]) -> None:
    """What its config leaves open is the teacher's, not measured anew on data that may be others."""
    loud, quiet = made("loud", "modality.level=2.0"), made("quiet", "modality.level=0.5")
    student = (*QUICK, "method={name: cd}")
    assert build(toy_config(*student, f"teacher={loud}")).modality.settings.model_dump()["level"] == 2.0
    with pytest.raises(UserError, match=r"loud: a model of other labelled settings: level = 2\.0, expected 0\.5"):
        build(toy_config(*student, f"init={quiet}", f"teacher={loud}"))


def test_a_run_goes_on_with_what_it_began_with(
    toy_config: Config, made: Callable[..., Path], tmp_path: Path, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = made("teacher")
    config = toy_config(*QUICK, "method={name: cd}", f"teacher={teacher}", "trainer.max_steps=2")
    train(config, tmp_path / "student")
    train(config, tmp_path / "student", resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(toy, "N", 41)
        with pytest.raises(UserError, match="--resume with 41 examples, expected the 37 it began with"):
            train(config, tmp_path / "student", resume=True)
    original = toy.ToySet.__init__

    def renamed(self: Any, *values: Any, **named: Any) -> None:
        original(self, *values, **named)
        self.class_names = ["a", "b", "c"]

    with monkeypatch.context() as patch:
        patch.setattr(toy.ToySet, "__init__", renamed)
        with pytest.raises(UserError, match=r"--resume with classes .*'a', 'b', 'c'.*, expected .*'low'"):
            train(config, tmp_path / "student", resume=True)
    other = made("other", "trainer.seed=1")
    (other / "model.safetensors").replace(teacher / "model.safetensors")
    with pytest.raises(UserError, match=r"--resume with teacher = .*: its weights are not those the run began with"):
        train(config, tmp_path / "student", resume=True)


def test_the_card_names_what_a_model_is_made_from(toy_config: Config, made: Callable[..., Path], tmp_path: Path) -> None:
    teacher = made("teacher")
    train(toy_config(*QUICK, "method={name: cd, solver: euler}", f"teacher={teacher}"), tmp_path / "student")
    card = export(tmp_path / "student", tmp_path / "model").card
    assert "| method | cd (arXiv 2303.01469), solver euler |" in card
    assert f"| taught by | `{teacher}` (licence: cc0-1.0) |" in card


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: cc-by-4.0\n---\n# a model\n", "cc-by-4.0"),
        ("---\nlicense: other\n---\n", ""),
        ("---\nlicense: [a, b]\n---\n", ""),
        ("---\n{ not yaml\n---\n", ""),
        ("# no head\n---\nlicense: mit\n---\n", ""),
        ("", ""),
    ],
)
def test_the_licence_in_a_card(card: str, licence: str) -> None:
    assert stated_licence(card) == licence
