"""A model on disk: what is written is read back, and what is damaged is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cmmulti import registry
from cmmulti.errors import UserError
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.config import Piece, build_network


@pytest.fixture
def folder(pipe: Pipeline, tmp_path: Path) -> Path:
    return pipe.save_pretrained(tmp_path / "model")


def test_round_trip(pipe: Pipeline, folder: Path) -> None:
    again = Pipeline.from_pretrained(folder)
    assert again.config == pipe.config
    assert again.card == pipe.card
    assert torch.equal(again.generate([0], [80.0]).x, pipe.generate([0], [80.0]).x)
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    # What this model has not is not written: earlier versions, which do not know the keys, read it.
    assert json.loads((folder / "config.json").read_text()).keys().isdisjoint({"lower", "context", "guidance", "sampler"})


@pytest.mark.parametrize("name", registry.names("models"))
def test_a_shipped_model_would_be_accepted_as_anybodys(name: str) -> None:
    asked, copied = Pipeline.from_pretrained(name), Pipeline.from_pretrained(registry.model_folder(name))
    assert asked.config == copied.config
    assert asked.model.state_dict().keys() == copied.model.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(asked.model.parameters(), copied.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "teacher"}, "role: teacher; the model to save is a consistency model"),
        ({"sigma_max": 40.0}, "sigma_max: 40; the model to save has 80"),
        (
            {"parameterization": Piece(name="trigflow")},
            r"parameterization: TrigFlow\(sigma_data=0.5\); the model to save has EDM\(sigma_data=0.5\)",
        ),
        (
            {"network": Piece(name="unet", settings={"in_channels": 1, "channels": [8, 24], "classes": 10})},
            r"network unet: down.1.block\S* is \(24,.*; in the model to save it is \(16,",
        ),
        ({"network": Piece(name="plain")}, "unknown network 'plain'"),
    ],
)
def test_a_model_that_its_config_does_not_describe_is_not_written(
    pipe: Pipeline, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    wrong = Pipeline(pipe.model, pipe.modality, pipe.config.model_copy(update=changes))
    with pytest.raises(UserError, match=message):
        wrong.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_network_wrapped_by_the_compiler_is_not_written_under_names_that_nothing_reads(
    pipe: Pipeline, tmp_path: Path
) -> None:
    pipe.model.network = torch.compile(pipe.model.network)  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"network unet: _orig_mod\S+ is missing; in the model to save it is \("):
        pipe.save_pretrained(tmp_path / "model")


def test_half_precision_halves_the_file(pipe: Pipeline, folder: Path, tmp_path: Path) -> None:
    half = pipe.save_pretrained(tmp_path / "half", half=True)
    size = [(f / "model.safetensors").stat().st_size for f in (folder, half)]
    assert size[1] < 0.6 * size[0]
    assert next(Pipeline.from_pretrained(half).model.parameters()).dtype == torch.float32


def _edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _edit_weights(folder: Path, name: str, value: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    if value is None:
        del state[name]
    else:
        state[name] = value
    save_file(state, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json: no such file"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not valid JSON"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json: not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{}"), "config.json: not valid JSON"),
        (lambda f: _edit_config(f, format=2), "format 2; this version reads format 1"),
        (lambda f: _edit_config(f, rol="teacher"), "unknown key 'rol' .did you mean 'role'"),
        (lambda f: _edit_config(f, sigma_max=float("inf")), "sigma_max"),
        (lambda f: _edit_config(f, modality={"name": "imagee"}), "did you mean 'image'"),
        (lambda f: _edit_config(f, network={"name": "unet", "settings": {"chanels": [8]}}), "chanels"),
        (lambda f: _edit_config(f, network={"name": "unet", "settings": {"channels": [16, 16]}}), "another architecture"),
        (lambda f: _edit_config(f, network={"name": "unet", "settings": {"patch": 1e308}}), "network unet: "),
        (
            lambda f: _edit_config(f, network={"name": "unet", "settings": {"classes": "\ud800"}}),
            r"network.settings.classes: expected a number, got '\\ud800'",
        ),
        (
            lambda f: _edit_config(f, modality_index=0, network={"name": "unet", "settings": {"classes": [1]}}),
            r"network.settings.classes: expected a number, got \[1\]",
        ),
        (
            lambda f: _edit_config(f, parameterization={"name": "edm", "settings": {"sigma_data": 10**400}}),
            "parameterization edm: ",
        ),
        (
            lambda f: _edit_config(f, modality={"name": "image", "settings": {"size": 8, "channels": 3}}),
            "does not take image",
        ),
        (lambda f: _edit_config(f, role="two-time"), "does not take image tensors .* this network has one time"),
        (lambda f: _edit_config(f, classes=["a", "b"]), "as many names as network.settings.classes = 10, got 2"),
        (lambda f: _edit_config(f, sigma_max=1e300), "sigma_max"),
        (lambda f: _edit_config(f, parameterization={"name": "edm", "settings": {"sigma_data": "x"}}), "parameterization"),
        (
            lambda f: _edit_config(f, parameterization={"name": "ddpm", "settings": {"alphas_cumprod": [0.9, 0.5, 0.1]}}),
            r"sigma_max = 80: expected at most 3, the last level of the schedule of parameterization ddpm",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors: damaged"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-10]),
            "model.safetensors: damaged",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "model.safetensors: damaged"),
        (lambda f: _edit_weights(f, "head.bias", None), "head.bias and 0 more are missing"),
        (lambda f: _edit_weights(f, "head.bias", torch.zeros(7)), r"head.bias is \(7,\), expected \(1,\)"),
        (lambda f: _edit_weights(f, "head.bias", torch.tensor([float("nan")])), "head.bias holds NaN"),
        (lambda f: _edit_weights(f, "extra", torch.zeros(1)), "extra and 0 more are not expected"),
    ],
)
def test_damage_is_refused_by_name(folder: Path, spoil: object, message: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(UserError, match=message) as caught:
        Pipeline.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_network_without_end_is_not_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmmulti.pipeline.folder.MOST_TENSORS", 500, raising=False)
    _edit_config(folder, network={"name": "unet", "settings": {"channels": [8], "blocks": 1000}})
    with pytest.raises(UserError, match="network unet: its settings ask for more than 500 tensors"):
        Pipeline.from_pretrained(folder)


def test_networks_whose_weights_are_missing_are_not_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr("cmmulti.pipeline.folder.build_network", lambda piece: built.append("") or build_network(piece))
    config = json.loads((folder / "config.json").read_text())
    lower = [{k: config[k] for k in ("network", "parameterization")} | {"sigma_high": 0.1 * i} for i in range(1, 99)]
    _edit_config(folder, lower=lower)
    with pytest.raises(UserError, match=r"lower-1\.safetensors: no such file"):
        Pipeline.from_pretrained(folder)
    assert len(built) == 2


def test_somebody_elses_files_are_not_written_over(pipe: Pipeline, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(UserError, match=r"README\.md: exists, and belongs to no model"):
        pipe.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my project"
    assert not (tmp_path / "model.safetensors").exists()
    assert pipe.save_pretrained(folder) == folder  # an earlier model is replaced


def test_a_full_disk_is_the_users_error_and_leaves_nothing(
    pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("cmmulti.weights.save_file", full)
    with pytest.raises(UserError, match=r"cannot write the model .*No space left"):
        pipe.save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_the_users_error(pipe: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        pipe.save_pretrained(tmp_path / "file" / "model")
