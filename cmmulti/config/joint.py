"""A joint model's part of a config: what its one network must be for all of its modalities."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

MUST_AGREE = ("dims", "in_channels")
"""What the adapters of a joint model must want alike; sizes may differ, since networks take any."""


def classes_of(modality: Any) -> int:
    """How many classes an adapter tells a network."""
    return int(modality.network().get("classes", 0) or 0)


def joint_network(
    settings: Mapping[str, Any], modalities: Mapping[str, Any], known: Collection[str], wrong: list[str]
) -> dict[str, Any]:
    """The network's settings for several modalities: an index of the modality as an input, labels one after the other.

    Args:
        settings: for the first one. modalities: name -> adapter, the first one first. known: settings that the network
            has. wrong: mistakes are added to it.
    """
    first, *others = modalities
    wanted = modalities[first].network()
    for name in others:
        for key in MUST_AGREE:
            if (own := modalities[name].network().get(key)) != wanted.get(key):
                wrong.append(f"joint.{name}: tensors with {key} = {own}; expected {wanted.get(key)} as {first}'s")
    told = {"modalities": len(modalities)}
    if total := sum(classes_of(each) for each in modalities.values()):
        told["classes"] = total
    for key, value in told.items():
        if key not in known:
            wrong.append(f"joint: the network has no setting {key!r}, which a joint model needs")
        elif settings.get(key) not in (None, 0, value, wanted.get(key)):
            wrong.append(f"network.{key} = {settings[key]!r}: expected {value} for these modalities together")
    return {**settings, **told}
