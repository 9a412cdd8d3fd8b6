"""A training step gives the device work and never waits for it: no number is read back, no table is copied over, and no
float64 is asked of a device that has none.

The step runs on the device ``meta``, whose tensors have shapes but no values: what asks for a value fails there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cmmulti import noise
from cmmulti.conditioning import Condition
from cmmulti.methods.base import Method
from cmmulti.methods.edm import EDM
from cmmulti.parameterization import DDPM
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.methods import SHAPE, at, prepared
from cmmulti.testing.tiny import methods

METHODS = methods()


class Valueless(TrainingRandomness):
    """Draws without values need no generators, which ``meta`` has not."""

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> Any:
        return super().generator(purpose) if torch.device(device).type == "cpu" else _Generator(torch.device(device))

    @contextmanager
    def dropout(self, device: torch.device | str, purpose: str = "dropout") -> Iterator[None]:
        yield


class _Generator:
    def __init__(self, device: torch.device) -> None:
        self.device = device


@contextmanager
def without_generators() -> Iterator[None]:
    """Draws on ``meta`` while inside, which refuse a stand-in by its type."""

    def tolerant(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args, generator=None, **kwargs: draw(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rand", "randn", "randint"):
            patch.setattr(torch, name, tolerant(getattr(torch, name)))
        yield


class _NoCopies(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            source = args[1] if func.overloadpacket is torch.ops.aten.copy_ else args[0]
            assert source.device == out.device, f"a copy from {source.device} to {out.device}"
        return out


@contextmanager
def no_copies() -> Iterator[None]:
    """Fails where a tensor goes from one device to another, or numbers of the host to ``meta``."""
    make = torch.tensor

    def made(*args: Any, **kwargs: Any) -> Tensor:
        out = make(*args, **kwargs)
        assert out.device.type == "cpu", f"a copy from the host to {out.device}"
        return out

    with pytest.MonkeyPatch.context() as patch, _NoCopies():
        patch.setattr(torch, "tensor", made)
        yield


def one_step(method: Method) -> None:
    """Loss, gradients, and what the method changes between steps; the step before may fill tables."""
    ready, model, teacher = prepared(method, dropout=0.1)
    for module in (ready, model.train(), *([] if teacher is None else [teacher])):
        module.to("meta")
    if teacher is not None:  # its own numbers are no parameters
        teacher.network = _Silent().to("meta")
    x0 = torch.randn(8, *SHAPE, device="meta")
    condition = Condition(label=torch.zeros(8, dtype=torch.int64, device="meta"))

    def step(number: int) -> None:
        ready.loss(model, x0, condition, at(number), Valueless(0, number)).value.backward()
        ready.after_step(model, at(number + 1))

    with without_generators():
        step(49)
        with no_copies():
            step(50)


class _Silent(torch.nn.Module):
    def forward(self, x: Tensor, *told: object) -> Tensor:
        return 0 * x


@pytest.mark.parametrize("name", METHODS)
def test_a_step_waits_for_nothing(name: str) -> None:
    one_step(METHODS[name])


def test_a_ddpm_teacher_keeps_its_table_where_it_runs() -> None:
    form = DDPM(alphas_cumprod=tuple(torch.linspace(0.99, 0.01, 20).tolist()))
    sigma = torch.ones(3, device="meta")
    form.coefficients(sigma)
    with no_copies():
        form.coefficients(sigma)


class _LooksAtTheLoss(EDM):
    def loss(self, *args: Any) -> Any:
        loss = super().loss(*args)
        assert bool(loss.value.isfinite())
        return loss


class _CopiesATable(EDM):
    def loss(self, *args: Any) -> Any:
        loss = super().loss(*args)
        torch.linspace(0, 1, 4).to(loss.sigma.device)
        return loss


class _MakesATensor(EDM):
    def loss(self, *args: Any) -> Any:
        loss = super().loss(*args)
        torch.tensor([0.1, 0.3], device=loss.sigma.device)
        return loss


@pytest.mark.parametrize("broken", [_LooksAtTheLoss, _CopiesATable, _MakesATensor])
def test_what_waits_is_found(broken: type[Method]) -> None:
    with pytest.raises((RuntimeError, AssertionError), match=r"meta tensors|a copy from"):
        one_step(broken())


class _Single(TorchDispatchMode):
    """``meta`` as a device without float64, as Apple's GPU is."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            # A number of Python's beside a tensor becomes a float64 tensor of no dimension inside PyTorch's derivatives.
            if isinstance(made, Tensor) and made.device.type == "meta" and made.dim():
                assert made.dtype != torch.float64, f"{func} makes float64"
        return out


@pytest.mark.parametrize("name", METHODS)
def test_a_step_needs_no_float64_where_there_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "SINGLE", frozenset({"meta"}))
    with _Single():
        one_step(METHODS[name])


def test_float64_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "SINGLE", frozenset())
    with _Single(), pytest.raises(AssertionError, match="makes float64"):
        one_step(METHODS["ctm"])
