"""A method of two networks: its run becomes a model folder of both, which everything else takes for a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.inspection import inspect, words
from cmmulti.model import Model
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.folder import parameters
from cmmulti.ranged import Ranged
from cmmulti.training import checkpoint
from cmmulti.training.callbacks.average import Average
from cmmulti.training.export import export
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
FILES = ["README.md", "config.json", "lower-1.safetensors", "model.safetensors"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Room for what the first test makes and the others read."""
    return {"folder": tmp_path_factory.mktemp("pair")}


@pytest.fixture
def pair(made: dict[str, Any], toy_config: Config, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the pair; beside it the first stage and both runs."""
    folder: Path = made["folder"]
    if not (folder / "pair").exists():
        short = ("trainer.max_steps=4", "ema.half_lives=[]", "ema.export=sigma-rel-0.1", "optimizer.learning_rate=0.01",
                 "checkpoint.every_steps=4")  # fmt: skip
        train(toy_config(*short, "method={name: ict}", "preview.every_steps=0"), folder / "run-1")
        export(folder / "run-1", folder / "first")
        shown: list[Model] = []
        of = Average.of
        monkeypatch.setattr(Average, "of", lambda *args: shown.append(of(*args)) or shown[-1])  # type: ignore[func-returns-value]
        second = ("method={name: tcm, split: 0.8}", f"init={folder / 'first'}")
        train(toy_config(*short, *second, "preview={every_steps: 4, n: 1, steps: [2]}"), folder / "run-2")
        made["shown"] = shown
        export(folder / "run-2", folder / "pair")
    return folder / "pair"


def test_the_folder_holds_both_networks(pair: Path, made: dict[str, Any]) -> None:
    assert sorted(p.name for p in pair.iterdir()) == FILES
    pipe, first = Pipeline.from_pretrained(pair), Pipeline.from_pretrained(made["folder"] / "first")
    assert isinstance(pipe.model, Ranged)
    assert pipe.model.limits == [0.8]
    state = checkpoint.load(made["folder"] / "run-2" / "step-00000004.ckpt")
    average = state["ema"]["sigma-rel-0.1"]
    assert all(torch.equal(p, a) for p, a in zip(pipe.model.network.parameters(), average, strict=True))
    x, above, below = torch.randn(3, 1, 8), torch.tensor([0.8, 4.0, 80.0]), torch.tensor([0.79, 0.1, 0.002])
    assert torch.equal(pipe.model.endpoint(x, below), first.model.endpoint(x, below))
    student = Model(pipe.model.network, pipe.model.parameterization, "consistency").eval()
    assert torch.equal(pipe.model.endpoint(x, above), student.endpoint(x, above))
    assert not torch.equal(pipe.model.endpoint(x, above), first.model.endpoint(x, above))
    assert parameters(pipe.model) == 2 * parameters(first.model)
    assert f"unet, {parameters(pipe.model)} parameters in 2 networks: up to sigma = 0.8, and above" in pipe.card
    # The stages may be of other forms: the first was trained in the consistency form, whose boundary is not 0.
    assert pipe.model.sigma_boundary == first.model.sigma_boundary == pytest.approx(0.002)


def test_previews_are_of_the_pair(pair: Path, made: dict[str, Any]) -> None:
    assert all(isinstance(model, Ranged) and not model.training for model in made["shown"])
    assert made["shown"]


def test_it_is_sampled_saved_again_and_inspected(pair: Path, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(pair)
    samples = pipe.generate([0, 1], [80.0, 0.5])
    assert samples.nfe == 2
    again = Pipeline.from_pretrained(pipe.save_pretrained(tmp_path / "again"))
    assert again.config == pipe.config
    assert torch.equal(again.generate([0, 1], [80.0, 0.5]).x, samples.x)
    half = pipe.save_pretrained(tmp_path / "half", half=True)
    assert all((half / name).stat().st_size < 0.6 * (pair / name).stat().st_size for name in FILES[2:])
    facts = inspect(pair)
    assert facts["parameters"] == parameters(pipe.model)
    assert facts["networks"] == {
        "lower-1.safetensors": "unet, sigma 0 to 0.8",
        "model.safetensors": "unet, sigma 0.8 to 80",
    }
    assert "lower-1.safetensors: unet, sigma 0 to 0.8" in words(facts)


def test_a_model_of_one_network_in_its_place_leaves_no_second_file(
    pair: Path, made: dict[str, Any], tmp_path: Path
) -> None:
    Pipeline.from_pretrained(pair).save_pretrained(tmp_path)
    (tmp_path / "lower-2.safetensors").write_text("somebody's")
    Pipeline.from_pretrained(made["folder"] / "first").save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "lower-2.safetensors",
        "model.safetensors",
    ]
    assert "lower" not in json.loads((tmp_path / "config.json").read_text())


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["lower"][0] |= changes
    path.write_text(json.dumps(values))


def poison(path: Path) -> None:
    state = load_file(path)
    save_file(state | {"head.bias": torch.tensor([float("nan")])}, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "lower-1.safetensors").unlink(), r"lower-1\.safetensors: no such file"),
        (
            lambda f: (f / "lower-1.safetensors").write_bytes((f / "lower-1.safetensors").read_bytes()[:-10]),
            r"lower-1\.safetensors: damaged",
        ),
        (lambda f: poison(f / "lower-1.safetensors"), r"lower-1\.safetensors: head\.bias holds NaN"),
        (lambda f: edit(f, sigma_high=80.0), r"ascending sigma_high below sigma_max = 80, got \[80\.0\]"),
        (lambda f: edit(f, sigma_high=-1.0), "sigma_high"),
        (lambda f: edit(f, sigma=1), r"unknown key 'lower\.0\.sigma' .did you mean 'sigma_high'"),
        (lambda f: edit(f, network={"name": "unet", "settings": {"classes": 4}}), "as many names as .* = 4, got 3"),
        (lambda f: edit(f, parameterization={"name": "edm", "settings": {"sigma_data": "x"}}), "parameterization edm"),
    ],
)
def test_damage_is_refused_by_name(pair: Path, tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    folder = Pipeline.from_pretrained(pair).save_pretrained(tmp_path / "pair")
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        Pipeline.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_training_does_not_start_from_a_pair(pair: Path, toy_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pair: a model of 2 networks, .* expected one of a single network to start from"):
        train(toy_config("method={name: ect}", f"init={pair}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_export_needs_the_first_stage(pair: Path, made: dict[str, Any], tmp_path: Path) -> None:
    first: Path = made["folder"] / "first"
    gone = first.rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(
            UserError, match=r"run-2: some noise levels are served by the model that it started from: .*first"
        ):
            export(made["folder"] / "run-2", tmp_path / "out")
    finally:
        gone.rename(first)
    assert not (tmp_path / "out").exists()
