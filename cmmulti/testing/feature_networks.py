"""The contract of feature networks, which distances in training look through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from cmmulti.methods.distance import FeatureDistance
from cmmulti.nn.feature_network import FeatureNetwork
from cmmulti.testing.suite import Suite, fail_unless


@dataclass(frozen=True)
class FeatureNetworkCase:
    """A feature network with its weights, and the shape (C, *spatial) of a tensor that it takes."""

    network: nn.Module
    shape: tuple[int, ...]

    @property
    def distance(self) -> FeatureDistance:
        return FeatureDistance(self.network)

    def layers(self, x: Tensor) -> list[Tensor]:
        return list(cast(FeatureNetwork, self.network.eval()).layers(x))

    def inputs(self, n: int = 3, seed: int = 0) -> Tensor:
        return torch.randn(n, *self.shape, generator=torch.Generator().manual_seed(seed))


check_feature_network: Suite[FeatureNetworkCase] = Suite("feature network")
"""``check_feature_network(FeatureNetworkCase(MyFeatures(...), (3, 32, 32)))``."""


@check_feature_network.check
def layers_are_maps_of_each_sample(case: FeatureNetworkCase) -> None:
    """One (B, channels, *positions) float32 tensor per layer, finite, of which a row depends on its own sample alone."""
    x = case.inputs()
    layers = case.layers(x)
    fail_unless(len(layers) > 0, "there are no layers")
    for i, (layer, alone) in enumerate(zip(layers, case.layers(x[:1]), strict=True)):
        fail_unless(layer.dim() >= 3 and len(layer) == len(x), f"layer {i} is {tuple(layer.shape)}, not (B, channels, ...)")
        fail_unless(layer.dtype == torch.float32, f"layer {i} is {layer.dtype}")
        fail_unless(bool(layer.isfinite().all()), f"layer {i} is not finite")
        same = torch.allclose(layer[:1], alone, atol=1e-5, rtol=1e-4)
        fail_unless(same, f"layer {i} of a sample depends on what is beside it")


@check_feature_network.check
def equal_tensors_are_at_no_distance(case: FeatureNetworkCase) -> None:
    """0 for equal tensors with a gradient that is finite there, above 0 for others, and the same number twice."""
    x, other = case.inputs().requires_grad_(), case.inputs(seed=1)
    same = case.distance(x, x.detach())
    fail_unless(float(same.detach().abs().max()) < 1e-6, f"equal tensors are {float(same.detach().max()):.3g} apart")
    same.sum().backward()
    fail_unless(x.grad is not None and bool(x.grad.isfinite().all()), "the gradient at equal tensors is not finite")
    apart = case.distance(x.detach(), other)
    fail_unless(bool((apart > 0).all()), "different tensors are at no distance")
    fail_unless(torch.equal(apart, case.distance(x.detach(), other)), "the same tensors are at two distances")


@check_feature_network.check
def the_gradient_is_that_of_the_distance(case: FeatureNetworkCase) -> None:
    """A small step along the gradient changes the distance by as much as the gradient says; no weight gets one."""
    x, other = case.inputs().requires_grad_(), case.inputs(seed=1)
    distance = case.distance.train()
    before = distance(x, other).sum()
    before.backward()
    fail_unless(x.grad is not None and bool(x.grad.isfinite().all()), "no finite gradient reaches the tensor")
    gradient = cast(Tensor, x.grad)
    fail_unless(float(gradient.norm()) > 0, "the gradient is zero")
    fail_unless(all(p.grad is None for p in distance.parameters()), "a weight of the network gets a gradient")
    step = 1e-3 / gradient.norm() * gradient
    found = (distance(x.detach() + step, other) - distance(x.detach() - step, other)).sum()
    expected = 2 * (gradient * step).sum()
    fail_unless(torch.allclose(found, expected, rtol=0.1, atol=1e-5), f"{float(found):.4g}, expected {float(expected):.4g}")
