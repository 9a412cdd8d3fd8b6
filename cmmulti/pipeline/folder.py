"""A model on disk: ``config.json``, ``model.safetensors``, ``README.md``, and ``lower-1.safetensors`` and on where other
networks serve lower noise levels. Nothing in it is ever executed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cmmulti import registry
from cmmulti.conditioning import Condition
from cmmulti.config.checking import checked
from cmmulti.errors import UserError, unknown_name
from cmmulti.files import json_text, read_json, replacing, writing
from cmmulti.modality import Modality
from cmmulti.model import Model, Role
from cmmulti.pipeline.checks import check_config, check_describes
from cmmulti.pipeline.config import FORMAT, WEIGHTS, Piece, PipelineConfig, build_network
from cmmulti.ranged import Ranged
from cmmulti.weights import read_weights, shapes_of, write_weights

CONFIG, CARD = "config.json", "README.md"
LARGEST_CONFIG = 4_000_000
MOST_TENSORS = 10_000
"""Most weights and biases of a network, counted one by one: those of large text-to-image models are about 2000."""
LATER = ("lower", "context", "guidance", "sampler", "unconditional")
"""Keys that the first versions of the format did not have."""


def read_model(model: str | Path) -> tuple[Model, Modality, PipelineConfig, str]:
    """Everything in a model's folder, or in that of a shipped name.

    Raises:
        UserError: there is neither, or its files are not as :func:`read_folder` wants them.
    """
    return read_folder(model_folder(model), shipped=not Path(model).exists())


def read_folder(folder: Path, shipped: bool = False) -> tuple[Model, Modality, PipelineConfig, str]:
    """Everything in a model folder, checked before it is used.

    Args:
        shipped: the folder came with a package and is trusted as its code is. Its networks are not tried without memory
            before they get some, for which PyTorch would import its compiler: a second's work.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a model folder with {CONFIG} and {WEIGHTS}")
    if not (folder / CONFIG).is_file() and (inside := sorted(str(p.parent) for p in folder.glob(f"*/{CONFIG}"))):
        raise UserError(f"{folder}: a folder of models; expected one of them: {', '.join(inside[:8])}")
    config = read_config(folder / CONFIG)
    try:
        modality = config.build_modality()
        shapes: Iterable[dict[str, tuple[int, ...]]]
        if shipped:
            shapes = [shapes_of(network) for network in networks(config.build_model())]
        else:  # each when its file is read: a config may ask for more networks than there are files
            shapes = (_shapes_of(piece, modality, config.role) for piece in config.files.values())
        states = [read_weights(folder / name, wanted) for name, wanted in zip(config.files, shapes, strict=True)]
        model = config.build_model()
    except UserError as error:
        told = str(error)
        raise UserError(told if str(folder) in told else f"{folder}: {told}") from error
    for network, state in zip(networks(model), states, strict=True):
        network.load_state_dict(state)
    card = folder / CARD
    return model, modality, config, card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""


def read_config(path: Path) -> PipelineConfig:
    """``config.json``, refused with its name unless it is whole, of a known format and sensible (:func:`check_config`)."""
    raw = read_json(path, "the config of a model", LARGEST_CONFIG)
    if raw.get("format", FORMAT) != FORMAT:
        raise UserError(f"{path}: format {raw['format']!r}; this version reads format {FORMAT}")
    config = checked(PipelineConfig, raw, str(path))
    try:
        check_config(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config


def write_folder(folder: Path, model: Model, config: PipelineConfig, card: str, half: bool) -> Path:
    """Write the files, each whole or not at all; an earlier model there is replaced, other people's files are not.

    Raises:
        UserError: ``config`` does not describe the model (:func:`check_describes`); the folder cannot be written, or holds
            a file of the same name that belongs to no model.
    """
    check_describes(config, model, networks(model))
    files, stale = list(config.files), _former_files(folder)
    if not (folder / WEIGHTS).exists():
        for name in (CONFIG, CARD, *files):
            if (folder / name).exists():
                raise UserError(f"{folder / name}: exists, and belongs to no model; expected a new folder or a model's")
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, network in zip(files, networks(model), strict=True):
            write_weights(folder / name, network, half, FORMAT)
        with replacing(folder / CARD) as part:
            part.write_text(card, encoding="utf-8", errors="backslashreplace")
        write_config(folder, config)
        for name in stale.difference(files):
            (folder / name).unlink(missing_ok=True)
    except (OSError, SafetensorError, UserError) as error:  # safetensors has its own name for a full disk
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, UserError):
            raise
        told = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{folder}: cannot write the model ({told})") from error
    return folder


def _former_files(folder: Path) -> set[str]:
    """Weights that an earlier model in the folder names, of which it may have had more."""
    try:
        return set(read_config(folder / CONFIG).files)
    except UserError:
        return set()


def write_config(folder: Path, config: PipelineConfig) -> None:
    """Write ``config.json`` of a model folder, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    # Keys at their defaults are left out, so that earlier versions, which do not know them, read the model.
    defaults = {k: f.get_default(call_default_factory=True) for k, f in PipelineConfig.model_fields.items()}
    plain = {k for k in LATER if getattr(config, k) == defaults[k]}
    values = config.model_dump(mode="json", exclude=plain)
    with writing(folder / CONFIG) as part:
        part.write_text(json_text(values), encoding="utf-8")


def model_folder(model: str | Path) -> Path:
    """The folder of a model: itself, or that of a shipped name. Raises UserError where there is neither."""
    if Path(model).exists():
        return Path(model)
    if str(model) not in registry.names("models"):
        raise unknown_name("model (no such folder either)", str(model), registry.names("models"))
    return registry.model_folder(str(model))


def _bounded(piece: Piece) -> nn.Module:
    """The network of a config that may come from anybody, refused where its settings ask for layers without end."""
    count = 0

    def counted(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += 1
        if count > MOST_TENSORS:
            raise UserError(f"network {piece.name}: its settings ask for more than {MOST_TENSORS} tensors")

    hook = register_module_parameter_registration_hook(counted)
    try:
        return build_network(piece)
    finally:
        hook.remove()


def _shapes_of(piece: Piece, modality: Modality, role: Role) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the network wants, worked out without allocating it.

    Raises:
        UserError: the network does not take the modality's tensors, or the times that its role tells it.
    """
    with torch.device("meta"):
        network, time = _bounded(piece).eval(), torch.zeros(1)
        condition = Condition(modality=torch.zeros(1, dtype=torch.int64))
        asked = (time, condition, time) if role == "two-time" else (time, condition)
        try:
            made = tuple(network(torch.zeros(1, *modality.shape), *asked).shape[1:])
        except NotImplementedError:  # a network whose operations have no form without memory; its weights are still checked
            made = modality.shape
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, ArithmeticError) as error:
            told = f"network {piece.name}: does not take {modality.name} tensors of shape {modality.shape}"
            raise UserError(f"{told}: {error}") from error
    if made != modality.shape:
        raise UserError(f"network {piece.name}: makes {made} of {modality.name} tensors {modality.shape}")
    return shapes_of(network)


def networks(model: Model) -> list[nn.Module]:
    """The networks of a model in the order of :attr:`PipelineConfig.files`."""
    return [model.network, *(part.network for part in (model.parts if isinstance(model, Ranged) else ()))]


def parameters(module: nn.Module) -> int:
    """Number of weights of a network, or of all networks of a model."""
    return sum(math.prod(p.shape) for p in module.parameters())
