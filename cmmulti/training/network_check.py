"""Whether a network can take what a run will give it, found out before the run begins."""

from __future__ import annotations

import torch
from torch import Tensor

from cmmulti import registry
from cmmulti.conditioning import Condition
from cmmulti.config import RunConfig
from cmmulti.config.joint import classes_of
from cmmulti.config.resolve import NETWORK_OF_INIT, signature_model
from cmmulti.contexts import ContextScale
from cmmulti.errors import UserError
from cmmulti.methods.base import Method
from cmmulti.methods.distance import FeatureDistance
from cmmulti.modality import Modality
from cmmulti.model import Model, evaluating


def check_network(
    model: Model,
    modality: Modality,
    guided: bool = False,
    context: ContextScale | None = None,
    differentiates: bool = False,
) -> None:
    """One evaluation on zeros, so that a network that cannot take these tensors is refused before the run begins.

    Args:
        modality: whose tensors it must take. guided: whether it must take a guidance weight as an input, too.
        context: the shape of the contexts that it must make use of; None for none.
        differentiates: whether it must have a derivative in its time.

    Raises:
        UserError: naming the shape and the network's own complaint, or what it makes no use of.
    """
    if differentiates and any(getattr(module, "whole_times", False) for module in model.network.modules()):
        raise UserError(
            "network: knows whole times alone and has no derivative in them, which this method takes; "
            "expected another method, such as ect or cd"
        )
    x, time = torch.zeros(1, *modality.shape), torch.zeros(1)
    weight = torch.ones(1, requires_grad=True) if guided else None
    said = None if context is None else torch.ones(1, context.tokens, context.width, requires_grad=True)
    condition = Condition(context=said, guidance=weight, modality=torch.zeros(1, dtype=torch.int64))
    told = (time, condition, time) if model.role == "two-time" else (time, condition)
    try:
        with evaluating(model), torch.set_grad_enabled(guided or context is not None):
            y = model.network(x, *told)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise UserError(f"network: does not take {modality.name} tensors of shape {modality.shape}: {error}") from error
    if y.shape != x.shape:
        raise UserError(
            f"network: makes {tuple(y.shape[1:])} of {modality.name} tensors {modality.shape}; expected the same shape"
        )
    # A fresh network answers 0 to everything; whether it hears the weight shows in what its answer is made of.
    if weight is not None and not _heard(y, weight):
        raise UserError(
            "network: does not take the guidance weight of this method as an input; set network.guided = true (in place of "
            "network: {name: init}, beside the settings of that network)"
        )
    if said is not None and not _heard(y, said):
        raise UserError("network: makes no use of the contexts of data.context; give it attention (network.attention)")


def check_distance(method: Method, modality: Modality) -> None:
    """One distance of zeros, so that a feature network that cannot take these tensors is refused before the run begins.

    Args:
        method: set up, with the network in place where it looks through one.

    Raises:
        UserError: naming the shape and the network's own complaint.
    """
    distance = getattr(method, "distance", None)
    if not isinstance(distance, FeatureDistance):
        return
    x = torch.zeros(2, *modality.shape)
    try:
        with torch.no_grad():
            distance(x, x)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise UserError(
            f"method.distance: does not take {modality.name} tensors of shape {modality.shape}: {error}"
        ) from error


def unheard_classes(config: RunConfig, modality: Modality) -> str | None:
    """What to tell of a run whose data have classes that its network could learn and is not told of; None of the others.

    Args:
        config: resolved, but with the network that it names itself: that of ``init`` is as that model has it.
    """
    name, classes = config.network.name, classes_of(modality)
    if name == NETWORK_OF_INIT or not classes or config.network.settings.get("classes") is not None:
        return None
    if "classes" not in signature_model(registry.load("networks", name)).model_fields:
        return None
    return (
        f"network.classes is not set: network {name} learns none of the {classes} classes of data {config.data.name!r}; "
        f"expected {classes} to learn them, 0 to leave them out"
    )


def _heard(y: Tensor, told: Tensor) -> bool:
    return torch.autograd.grad(y.sum(), told, allow_unused=True, retain_graph=True)[0] is not None
