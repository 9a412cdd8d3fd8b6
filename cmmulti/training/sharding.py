"""Weights spread over processes (FSDP2): shard a network, gather tensors whole, spread whole ones again.

Everything here leaves ordinary tensors as they are, so that the same code runs with and without sharding, and a checkpoint
written by one kind of run is read by the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Spread the parameters of a network over the processes of ``mesh``, one group per module of its lists."""
    from torch.distributed.fsdp import fully_shard

    for child in network.children():
        if isinstance(child, nn.ModuleList):
            for part in child:
                fully_shard(part, mesh=mesh)
    fully_shard(network, mesh=mesh)


def shard_training(student: nn.Module, method: nn.Module, mesh: DeviceMesh) -> None:
    """Spread a student's network and the method's own trained weights; a teacher stays whole on every process.

    Own weights too small to share out are spread all the same: it is what adds up their gradients over processes.
    """
    from torch.distributed.fsdp import fully_shard

    shard(student, mesh)
    for own in method.children():
        if any(p.requires_grad and not isinstance(p, DTensor) for p in own.parameters()):
            fully_shard(own, mesh=mesh)


def gathered(value: Tensor) -> Tensor:
    """``value`` whole, on its device; all processes must call this together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def local(value: Tensor) -> Tensor:
    """This process's part of ``value``, in the same memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Any) -> Any:
    """``value`` with every sharded tensor in it gathered on the CPU; all processes must call this together."""
    if isinstance(value, DTensor):
        return value.full_tensor().detach().cpu()
    if isinstance(value, Mapping):
        return {k: whole(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(whole(v) for v in value)
    return value


def spread(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, sharded as ``like`` is."""
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value


def spread_state(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A whole state dict, each tensor sharded as the module's is."""
    mine = module.state_dict()
    return {name: spread(tensor, mine[name]) if name in mine else tensor for name, tensor in state.items()}


def spread_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A whole optimiser state, moments sharded as the parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    spread_out = {
        i: {
            k: spread(v, parameters[i]) if isinstance(v, Tensor) and v.shape == parameters[i].shape else v
            for k, v in own.items()
        }
        for i, own in state["state"].items()
    }
    return {**state, "state": spread_out}
