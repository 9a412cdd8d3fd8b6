"""The contract of networks."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cmmulti.conditioning import NULL_LABEL, Condition
from cmmulti.testing.suite import Suite, fail_unless


@dataclass(frozen=True)
class NetworkCase:
    """A network and what it is for.

    Args:
        network: as built. size: a spatial shape, small and odd. channels: of the data. classes: labels, 0 for none.
        context_width: features of a context, 0 for none. two_times: it takes ``time_next``. modalities: how many it tells
            apart, 0 for none.
        tolerance: relative, of the forward derivative in float64; looser for a network that embeds time in float32.
    """

    network: nn.Module
    size: tuple[int, ...] = (7, 9)
    channels: int = 1
    classes: int = 0
    context_width: int = 0
    two_times: bool = False
    modalities: int = 0
    tolerance: float = 1e-5

    def awake(self) -> nn.Module:
        """A copy in evaluation mode whose zero-initialised layers hold random weights, so that every input is heard."""
        network = copy.deepcopy(self.network).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in network.parameters():
                if bool((parameter == 0).all()):
                    parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        return network

    def inputs(self, n: int = 2, size: tuple[int, ...] | None = None, seed: int = 1) -> tuple[Tensor, Tensor, Condition]:
        """x (n, C, *size), native times (n,) and a condition of all that the network knows."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, self.channels, *(size or self.size), generator=generator)
        time = torch.rand(n, generator=generator)
        label = torch.arange(n) % self.classes if self.classes else None
        width = self.context_width
        context = torch.randn(n, 3, width, generator=generator) if width else None
        modality = torch.arange(n) % self.modalities if self.modalities else None
        return x, time, Condition(label=label, context=context, modality=modality)


check_network: Suite[NetworkCase] = Suite("network")
"""``check_network(NetworkCase(MyNetwork(...), size=(7, 9)))``."""


@check_network.check
def any_spatial_size(case: NetworkCase) -> None:
    """Odd, tiny and unequal sizes come back as they were; the number of dimensions is the case's."""
    network = case.awake()
    for side in (1, 2, 5, 8, 13):
        size = tuple(side + i for i in range(len(case.size)))
        x, time, condition = case.inputs(size=size)
        got = network(x, time, condition)
        fail_unless(got.shape == x.shape, f"an input {tuple(x.shape)} comes back as {tuple(got.shape)}")
        fail_unless(bool(got.isfinite().all()), f"the output for size {size} is not finite")


@check_network.check
def samples_stay_apart(case: NetworkCase) -> None:
    """A batch gives what its samples give alone, in evaluation mode and, where no dropout draws, in training mode."""
    network = case.awake()
    x, time, condition = case.inputs(3)

    def called(rows: slice, seed: int = 0) -> Tensor:
        torch.manual_seed(seed)
        return torch.as_tensor(network(x[rows], time[rows], condition[rows]))

    for mode in ("evaluation", "training"):
        network.train(mode == "training")
        together = called(slice(3))
        alone = torch.cat([called(slice(i, i + 1)) for i in range(3)])
        if mode == "evaluation" or torch.equal(together, called(slice(3), seed=1)):
            same = torch.allclose(together, alone, rtol=1e-4, atol=1e-5)
            fail_unless(same, f"in {mode} mode a sample depends on those beside it")
    network.eval()
    fail_unless(torch.equal(network(x, time, condition), network(x, time, condition)), "two calls differ in eval mode")


@check_network.check
def hears_its_inputs(case: NetworkCase) -> None:
    """All that a condition holds, x and both times change the output; a missing label or context is the null one."""
    network = case.awake()
    x, time, condition = case.inputs()
    base = network(x, time, condition)
    fail_unless(not torch.allclose(base, network(x + 0.1, time, condition)), "x is not heard")
    fail_unless(not torch.allclose(base, network(x, time + 0.3, condition), rtol=1e-4, atol=1e-6), "time is not heard")
    if case.classes:
        other = replace(condition, label=(torch.arange(len(x)) + 1) % case.classes)
        null = replace(condition, label=torch.full((len(x),), NULL_LABEL))
        none = replace(condition, label=None)
        fail_unless(not torch.allclose(base, network(x, time, other)), "the label is not heard")
        fail_unless(not torch.allclose(base, network(x, time, null)), "a dropped label is heard as a class")
        dropped, later = network(x, time, null), network(x, time + 0.3, null)
        fail_unless(not torch.allclose(dropped, later, rtol=1e-4, atol=1e-6), "a dropped label drops the time")
        fail_unless(torch.equal(network(x, time, null), network(x, time, none)), "no label differs from the null label")
    if case.context_width:
        silent = network(x, time, replace(condition, context=condition.dropped().context))
        fail_unless(not torch.allclose(base, silent), "the context is not heard")
        without = network(x, time, replace(condition, context=None))
        fail_unless(torch.allclose(silent, without, atol=1e-5), "no context differs from the null context")
    if case.modalities > 1:
        other = replace(condition, modality=(torch.arange(len(x)) + 1) % case.modalities)
        fail_unless(not torch.allclose(base, network(x, time, other)), "the modality is not heard")
    if case.two_times:
        one, two = network(x, time, condition, time), network(x, time, condition, time - 0.2)
        fail_unless(not torch.allclose(one, two, rtol=1e-4, atol=1e-6), "time_next is not heard")
    else:
        try:
            network(x, time, condition, time)
        except ValueError:
            return
        raise AssertionError("time_next is accepted and ignored; expected a ValueError")


@check_network.check
def gradients_are_finite(case: NetworkCase) -> None:
    """Every parameter that is heard has a finite gradient, in training mode."""
    network = case.awake().train()
    x, time, condition = case.inputs(4)
    network(x, time, condition).square().mean().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    fail_unless(len(gradients) > 0 and all(bool(g.isfinite().all()) for g in gradients), "a gradient is not finite")


@check_network.check
def forward_derivative(case: NetworkCase) -> None:
    """``torch.func.jvp`` in x and time agrees with central differences in float64."""
    network = case.awake().double()
    x, time, condition = case.inputs()
    x, time = x.double(), time.double()
    condition = condition.map(lambda v: v.double() if v.is_floating_point() else v)
    generator = torch.Generator().manual_seed(5)
    dx = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    dt = torch.randn(time.shape, generator=generator, dtype=torch.float64)

    def function(x: Tensor, time: Tensor) -> Tensor:
        return torch.as_tensor(network(x, time, condition))

    with torch.no_grad():
        value, derivative = torch.func.jvp(function, (x, time), (dx, dt))[:2]
        step = 1e-5
        ahead, behind = function(x + step * dx, time + step * dt), function(x - step * dx, time - step * dt)
        difference = (ahead - behind) / (2 * step)
        error = float((derivative - difference).norm() / difference.norm())
        fail_unless(
            error < case.tolerance, f"the forward derivative differs from central differences by {error:.2g} relative"
        )
        same = float((value - function(x, time)).norm() / value.norm())
        fail_unless(same < 1e-9, f"the primal of jvp differs from a plain call by {same:.2g} relative")


@check_network.check
def half_precision(case: NetworkCase) -> None:
    """bfloat16 autocast runs, finite and near float32."""
    network = case.awake()
    x, time, condition = case.inputs()
    with torch.no_grad():
        full = network(x, time, condition)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(x, time, condition)
    error = float((half.float() - full).norm() / full.norm())
    fail_unless(error < 0.1, f"bfloat16 autocast differs from float32 by {error:.2g} relative, expected < 0.1")


@check_network.check
def compiles(case: NetworkCase) -> None:
    """``torch.compile`` captures the whole network in one graph, and the graph gives the same answer.

    Captured only: generating machine code takes minutes and is PyTorch's affair.
    """
    network = case.awake()
    x, time, condition = case.inputs()
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(x, time, condition), network(x, time, condition), rtol=1e-4, atol=1e-5)


@check_network.check
def state_round_trip(case: NetworkCase) -> None:
    """Weights are tensors with unique storage, and a copy that loads them answers alike."""
    network = case.awake()
    state = network.state_dict()
    fail_unless(all(isinstance(v, Tensor) for v in state.values()), "state_dict holds something that is no tensor")
    addresses = [v.data_ptr() for v in state.values() if v.numel()]
    fail_unless(len(set(addresses)) == len(addresses), "two entries of state_dict share their memory")
    again = copy.deepcopy(case.network).eval()
    again.load_state_dict(state)
    x, time, condition = case.inputs()
    fail_unless(torch.equal(again(x, time, condition), network(x, time, condition)), "loaded weights answer otherwise")
