"""The weights of one network on disk: a safetensors file, checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cmmulti.errors import UserError
from cmmulti.files import regular_file, replacing


def write_weights(path: Path, network: nn.Module, half: bool, form: int) -> None:
    """The state of ``network``, float16 where ``half``, whole or not at all; ``form`` is the folder's format."""
    state = {
        name: (t.half() if half and t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in network.state_dict().items()
    }
    with replacing(path) as part:
        save_file(state, part, metadata={"format": "pt", "cmmulti": str(form)})


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors, as :func:`read_weights` expects them; one on ``meta`` will do."""
    return {name: tuple(t.shape) for name, t in network.state_dict().items()}


def read_weights(path: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The tensors of a file, float32, of exactly the names and shapes ``expected`` and finite.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    regular_file(path, "the weights of the model")
    try:
        with safe_open(path, framework="pt") as stored:
            shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
            _same_architecture(path, shapes, expected)
            state = {name: stored.get_tensor(name).float() for name in shapes}
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
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
