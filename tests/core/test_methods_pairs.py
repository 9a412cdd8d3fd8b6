"""Both evaluations of a pair drop the same units, in every layer, and hold the same noise, on the CPU and on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cmmulti.conditioning import Condition
from cmmulti.methods.base import Method
from cmmulti.methods.ect import ECT
from cmmulti.model import Model, expand
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.methods import SHAPE, at, prepared
from cmmulti.testing.tiny import methods

METHODS = methods()
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif("not torch.cuda.is_available()"))]
# Passes of the student or its average; all others have pairs, or primal and derivative.
PASSES = {"edm": 1, "progressive": 1, "ctm": 5}


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """The masks of all dropout layers in the order of their calls, those of a forward-mode pass too."""
    masks: list[Tensor] = []
    original = F.dropout

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        dropped = original(x, p, training)  # of ones: the mask itself, which the layer multiplies with
        if training and p:
            masks.append(dropped)
        return dropped

    with monkeypatch.context() as patch:
        patch.setattr(F, "dropout", dropout)
        yield masks


def loss_of(method: Method, device: str, x0: Tensor) -> Model:
    ready, model, teacher = prepared(method, dropout=0.5)
    # Passes drop units where the student does, in whatever mode the method's own copy of it was left.
    for module in (ready.eval(), model.train(), *([] if teacher is None else [teacher])):
        module.to(device)
    condition = Condition(label=torch.tensor([0, 1, 2, -1] * 2, device=device))
    ready.loss(model, x0, condition, at(50), TrainingRandomness(0, 50)).value.backward()
    return model


def batch(device: str) -> Tensor:
    return 0.5 * torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(0)).to(device)


def assert_shared(method: Method, device: str, monkeypatch: pytest.MonkeyPatch, passes: int) -> None:
    """Some layers of different masks, which come again in the same order in each pass."""
    with recorded(monkeypatch) as masks:
        model = loss_of(method, device, batch(device))
    layers = sum(isinstance(m, torch.nn.Dropout) for m in model.modules())
    assert layers > 2
    assert len(masks) == passes * layers
    alike = [(a, b) for a, b in zip(masks[:layers], masks[1:layers], strict=False) if a.shape == b.shape]
    assert all(not torch.equal(a, b) for a, b in alike)
    for i, mask in enumerate(masks):
        assert torch.equal(mask, masks[i % layers]), f"pass {i // layers}, layer {i % layers}"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", METHODS)
def test_all_passes_drop_the_same_units(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_shared(METHODS[name], device, monkeypatch, PASSES.get(name, 2))


class _Unshared(ECT):
    """Its second pass has masks of its own."""

    def loss(self, *args: Any) -> Any:
        given: TrainingRandomness = args[4]

        class Anew(TrainingRandomness):
            calls = 0

            def dropout(self, device: torch.device | str, purpose: str = "dropout") -> Any:
                Anew.calls += 1
                return super().dropout(device, f"{purpose}-{Anew.calls}")

        return super().loss(*args[:4], Anew(given.seed, given.step))


def test_masks_that_differ_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="pass 1, layer 0"):
        assert_shared(_Unshared(), "cpu", monkeypatch, 2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["ct", "ict", "ect", "tcm"])
def test_both_ends_of_a_step_hold_the_same_noise(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``(x - x0) / sigma`` is one tensor at both levels; a level of 0 shows none."""
    seen: list[tuple[Tensor, Tensor]] = []
    original: Callable[..., Tensor] = Model.endpoint

    def endpoint(self: Model, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        seen.append((x.detach(), sigma))
        return original(self, x, sigma, condition)

    monkeypatch.setattr(Model, "endpoint", endpoint)
    x0 = batch(device)
    loss_of(METHODS[name], device, x0)
    assert len(seen) == (3 if name == "tcm" else 2)
    noises = [(x - x0) / expand(sigma, x0) for x, sigma in seen]
    assert any(not torch.equal(sigma, seen[0][1]) for _, sigma in seen)
    for (_, sigma), noise in zip(seen, noises, strict=True):
        clear = (sigma > 0.02) & (seen[0][1] > 0.02)  # below, the quotient is rounding
        assert bool(clear.any())
        torch.testing.assert_close(noise[clear], noises[0][clear], rtol=1e-3, atol=1e-3)
