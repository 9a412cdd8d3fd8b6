"""A model on disk: ``config.json``, ``model.safetensors``, ``README.md``. Nothing in it is ever executed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cmmulti import registry
from cmmulti.conditioning import NO_CONDITION
from cmmulti.config.checking import checked
from cmmulti.errors import UserError, unknown_name
from cmmulti.files import replacing
from cmmulti.modality import Modality
from cmmulti.model import Model, Role
from cmmulti.noise import SIGMA_MAX
from cmmulti.parameterization import parameterization

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
LARGEST_CONFIG = 4_000_000


class Piece(BaseModel):
    """A registered piece and its settings."""

    model_config = ConfigDict(extra="forbid")
    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


class PipelineConfig(BaseModel):
    """What ``config.json`` holds.

    ``levels``: searched noise levels per number of steps; others are computed. ``classes``: a name per label.
    ``evaluation_batch``: most samples per network call. ``sigma_data``: standard deviation of the training tensors.
    """

    model_config = ConfigDict(extra="forbid")
    format: int = FORMAT
    name: str = "unnamed"
    modality: Piece
    network: Piece
    parameterization: Piece
    role: Role
    method: str = ""
    sigma_data: float = Field(0.5, gt=0, allow_inf_nan=False)
    sigma_max: float = Field(SIGMA_MAX, gt=0, le=1e6, allow_inf_nan=False)
    levels: dict[int, list[float]] = Field(default_factory=dict)
    classes: list[str] = Field(default_factory=list)
    evaluation_batch: int | None = Field(32, ge=1)

    @model_validator(mode="after")
    def _same_classes(self) -> PipelineConfig:
        known = self.network.settings.get("classes", len(self.classes))
        if self.classes and known != len(self.classes):
            raise ValueError(
                f"classes: expected as many names as network.settings.classes = {known}, got {len(self.classes)}"
            )
        return self

    def build_modality(self) -> Modality:
        adapter = registry.load("modalities", self.modality.name)
        modality: Modality = adapter(checked(adapter.Settings, self.modality.settings, f"modality {self.modality.name}"))
        return modality

    def build_model(self) -> Model:
        """The model with fresh weights."""
        form = self.parameterization
        try:
            shape = parameterization(form.name, **form.settings)
            finite = all(bool(c.isfinite().all()) for c in shape.coefficients(torch.tensor([self.sigma_max])))
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"parameterization {form.name}: {error} (settings {form.settings})") from error
        if not finite:
            raise UserError(f"parameterization {form.name}: settings {form.settings} give no finite coefficients")
        return Model(build_network(self.network), shape, self.role, self.sigma_max, self.evaluation_batch)


def build_network(piece: Piece) -> nn.Module:
    """The registered network of that name; a setting it does not know, or cannot take, is the user's error."""
    maker = registry.load("networks", piece.name)
    try:
        network: nn.Module = maker(**piece.settings)
    except (TypeError, ValueError, KeyError, IndexError, StopIteration, ZeroDivisionError, RuntimeError) as error:
        raise UserError(f"network {piece.name}: {error or type(error).__name__} (settings {piece.settings})") from error
    return network


def read_folder(folder: Path) -> tuple[Model, Modality, PipelineConfig, str]:
    """Everything in a model folder, checked before it is used.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a model folder with {CONFIG} and {WEIGHTS}")
    config = read_config(folder / CONFIG)
    try:
        modality = config.build_modality()
        shapes = _shapes_of(config, modality)
        state = _read_weights(folder / WEIGHTS, shapes)
        model = config.build_model()
    except UserError as error:
        told = str(error)
        raise UserError(told if str(folder) in told else f"{folder}: {told}") from error
    model.network.load_state_dict(state)
    card = folder / CARD
    return model, modality, config, card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""


def read_config(path: Path) -> PipelineConfig:
    """``config.json``, refused with its name unless it is whole and of a known format."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a model folder with {CONFIG}")
    if path.stat().st_size > LARGEST_CONFIG:
        raise UserError(f"{path}: {path.stat().st_size} bytes; expected a config of at most {LARGEST_CONFIG}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(raw).__name__}")
    if raw.get("format", FORMAT) != FORMAT:
        raise UserError(f"{path}: format {raw['format']!r}; this version reads format {FORMAT}")
    return checked(PipelineConfig, raw, str(path))


def write_folder(folder: Path, model: Model, config: PipelineConfig, card: str, half: bool) -> Path:
    """Write the three files, each whole or not at all; an earlier model there is replaced, other people's files are not.

    Raises:
        UserError: the folder cannot be written, or holds a file of the same name that belongs to no model.
    """
    if not (folder / WEIGHTS).exists():
        for name in (CONFIG, CARD):
            if (folder / name).exists():
                raise UserError(f"{folder / name}: exists, and belongs to no model; expected a new folder or a model's")
    state = {
        name: (t.half() if half and t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in model.network.state_dict().items()
    }
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as part:
            save_file(state, part, metadata={"format": "pt", "cmmulti": str(FORMAT)})
        with replacing(folder / CARD) as part:
            part.write_text(card, encoding="utf-8")
        write_config(folder, config)
    except (OSError, SafetensorError, UserError) as error:  # safetensors has its own name for a full disk
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, UserError):
            raise
        told = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{folder}: cannot write the model ({told})") from error
    return folder


def write_config(folder: Path, config: PipelineConfig) -> None:
    """``config.json`` of a model folder, whole or not at all."""
    try:
        with replacing(folder / CONFIG) as part:
            part.write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder / CONFIG}: cannot be written ({error.strerror or error})") from error


def model_folder(model: str | Path) -> Path:
    """The folder of a model: itself, or that of a shipped name. Raises UserError where there is neither."""
    if Path(model).exists():
        return Path(model)
    if str(model) not in registry.names("models"):
        raise unknown_name("model (no such folder either)", str(model), registry.names("models"))
    return registry.model_folder(str(model))


def _shapes_of(config: PipelineConfig, modality: Modality) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the network wants, worked out without allocating it.

    Raises:
        UserError: the network does not take the modality's tensors.
    """
    with torch.device("meta"):
        network = build_network(config.network).eval()
        try:
            made = tuple(network(torch.zeros(1, *modality.shape), torch.zeros(1), NO_CONDITION).shape[1:])
        except NotImplementedError:  # a network whose operations have no form without memory; its weights are still checked
            made = modality.shape
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            told = f"network {config.network.name}: does not take {modality.name} tensors of shape {modality.shape}"
            raise UserError(f"{told}: {error}") from error
    if made != modality.shape:
        raise UserError(f"network {config.network.name}: makes {made} of {modality.name} tensors {modality.shape}")
    return {name: tuple(t.shape) for name, t in network.state_dict().items()}


def _read_weights(path: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the weights of the model")
    try:
        with safe_open(path, framework="pt") as stored:
            shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
            _same_architecture(path, shapes, expected)
            state = {name: stored.get_tensor(name).float() for name in shapes}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged weights ({error}); expected a whole safetensors file") from error
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {name} holds NaN or infinity; expected finite weights")
    return state


def _same_architecture(path: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    if missing := sorted(expected.keys() - found.keys()):
        raise UserError(f"{path}: of another architecture: {missing[0]} and {len(missing) - 1} more are missing")
    if surplus := sorted(found.keys() - expected.keys()):
        raise UserError(f"{path}: of another architecture: {surplus[0]} and {len(surplus) - 1} more are not expected")
    for name, shape in expected.items():
        if found[name] != shape:
            raise UserError(f"{path}: of another architecture: {name} is {found[name]}, expected {shape}")


def parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(math.prod(p.shape) for p in network.parameters())
