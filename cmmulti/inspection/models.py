"""Model folders, their configs and weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from cmmulti.errors import UserError
from cmmulti.nn.feature_network import TrainedClassifier
from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.folder import parameters, read_config


def model(folder: Path) -> dict[str, Any]:
    """A model folder, its weights read and checked."""
    pipe = Pipeline.from_pretrained(folder)
    facts = {"kind": "model", "path": str(folder), **_of_config(pipe.config)}
    facts["shape"] = list(pipe.modality.shape)
    facts["parameters"] = parameters(pipe.model)
    facts["megabytes"] = round(sum((folder / name).stat().st_size for name in pipe.config.files) / 1e6, 2)
    facts["levels"] = {str(steps): pipe.levels(steps) for steps in (1, 2, 4)}
    facts["tasks"] = {name: f"{task.verb}: {task.summary}" for name, task in pipe.modality.tasks.items()}
    facts["card"] = pipe.card
    return facts


def folders(path: Path) -> dict[str, Any]:
    """A folder of model folders, such as the export of a joint run."""
    found = {inner.parent: read_config(inner) for inner in sorted(path.glob("*/config.json"))}
    told = {folder.name: f"{read.modality.name}, {read.role} by {read.method}" for folder, read in found.items()}
    return {"kind": "folder of models", "path": str(path), "models": told}


def config(path: Path) -> dict[str, Any]:
    """The ``config.json`` of a model."""
    found = read_config(path)
    modality = found.build_modality()
    levels = {str(steps): found.levels_of(steps) for steps in (1, 2, 4)}
    return {"kind": "model config", "path": str(path), **_of_config(found), "shape": list(modality.shape), "levels": levels}


def classifier(folder: Path) -> dict[str, Any]:
    """A feature network's folder, its weights read and checked."""
    network = TrainedClassifier(str(folder))
    about = network.about
    named = None if about.accuracy is None else f"{100 * about.accuracy:.1f} % of {about.heldout} items"
    return {
        "kind": f"classifier of {about.data.get('name')}, a feature network for `method.distance`",
        "path": str(folder),
        "shape": list(about.shape),
        "classes": about.classes,
        "parameters": parameters(network),
        "held-out items named rightly": named,
        "modality": about.modality,
        "data": about.data,
        "training": about.training,
    }


def weights_of_model(path: Path) -> dict[str, Any]:
    """``model.safetensors``: the model that it belongs to, or the bare tensors where its config is not beside it."""
    return model(path.parent) if (path.parent / "config.json").is_file() else weights(path)


def weights(path: Path) -> dict[str, Any]:
    """A safetensors file on its own; every tensor is read."""
    count, numbers, types = 0, 0, set()
    try:
        with safe_open(path, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                tensor = stored.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
                    raise UserError(f"{path}: {name} holds NaN or infinity; expected finite weights")
                count, numbers = count + 1, numbers + math.prod(tensor.shape)
                types.add(str(tensor.dtype).removeprefix("torch."))
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: damaged weights ({error}); expected a whole safetensors file") from error
    return {"kind": "weights", "path": str(path), "tensors": count, "numbers": numbers, "types": sorted(types)}


def _of_config(found: PipelineConfig) -> dict[str, Any]:
    return {
        "name": found.name,
        "modality": found.modality.name,
        "role": found.role,
        "method": found.method,
        "network": found.network.name,
        "parameterization": found.parameterization.name,
        "sigma_data": found.sigma_data,
        "sigma_max": found.sigma_max,
        "networks": _ranges(found),
        "classes": list(found.classes),
        "context": None if found.context is None else found.context.described,
        "settings": dict(found.modality.settings),
    }


def _ranges(found: PipelineConfig) -> dict[str, str]:
    """Network and noise levels of each file, from the lowest, where there are several."""
    ends = [0.0, *(part.sigma_high for part in found.lower), found.sigma_max]
    top, *lower = found.files.items()
    return {
        name: f"{piece.name}, sigma {low:g} to {high:g}"
        for (name, piece), low, high in zip([*lower, top], ends[:-1], ends[1:], strict=True)
        if lower
    }
