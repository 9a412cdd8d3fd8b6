"""Sampling, solving and measuring on a device that is not the processor: what meets there must be there.

No GPU is asked for. A tensor of the pretended device holds its values on the processor and says that it is on ``meta``; an
operation on one of them and one that is not is refused, as a GPU refuses it, and so is float64, as Apple's GPU refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from cmmulti.conditioning import Condition
from cmmulti.model import Model
from cmmulti.noise import few_step_levels
from cmmulti.operators.affine import Affine
from cmmulti.operators.channels import ChannelMix
from cmmulti.operators.mask import Mask
from cmmulti.pipeline import Pipeline
from cmmulti.problems.base import Problem, Solver
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.named import sampler_named
from cmmulti.testing import tiny

ROOT = Path(__file__).parents[2] / "modalities"
THERE = torch.device("meta")


class Elsewhere(Tensor):
    """A tensor of the pretended device around the one that has the values."""

    @staticmethod
    def __new__(cls, values: Tensor) -> Elsewhere:
        out = Tensor._make_wrapper_subclass(
            cls, values.shape, values.stride(), values.storage_offset(), dtype=values.dtype, device=THERE
        )
        out.values_here = values
        return out

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """While inside, ``meta`` is a device with values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})


def here(value: Any) -> Any:
    return value.values_here if isinstance(value, Elsewhere) else value


def there(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.float64, torch.complex128):
        raise TypeError(f"{value.dtype} on a device that has none")
    # A sparse matrix has no strides to pretend with: it stays as it is.
    return Elsewhere(value) if isinstance(value, Tensor) and value.layout is torch.strided else value


def dispatched(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    aten, packet = torch.ops.aten, func.overloadpacket
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    ours = [t for t in tensors if isinstance(t, Elsewhere)]
    strangers = [t for t in tensors if not isinstance(t, Elsewhere) and t.dim() and t.layout is torch.strided]
    crossing = packet in (aten.copy_, aten._to_copy)
    indexing = packet in (aten.index, aten.index_put, aten.index_put_) and isinstance(args[0], Elsewhere)
    if ours and strangers and not crossing and not indexing:
        raise RuntimeError(f"{func} meets tensors of two devices")
    asked = kwargs.get("device")
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    out = func(*tree_map(here, args), **tree_map(here, kwargs))
    if packet is aten.copy_:
        return args[0]
    if (bool(ours) if asked is None else torch.device(asked) == THERE) is False:
        return out
    # What an operation in place returns is the tensor that it was given.
    given = {id(t.values_here): t for t in ours if packet not in (aten.detach, aten.alias)}
    return tree_map(lambda o: given.get(id(o), there(o)), out)


@pytest.fixture(autouse=True)
def pretended() -> Iterator[None]:
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a module's parameters become other objects
    try:
        with Pretended():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def shipped(name: str) -> Pipeline:
    with torch.utils._python_dispatch._disable_current_modes():  # loading has a use of its own for ``meta``
        pipe = Pipeline.from_pretrained(name)
    return pipe.to(THERE)


def slices(name: str, folder: Path) -> Path:
    scan = nib.load(ROOT / "volume/inputs" / name)
    middle = scan.shape[2] // 2
    nib.save(scan.slicer[:, :, middle : middle + 1], folder / name)
    return folder / name


def test_two_devices_do_not_mix() -> None:
    x = torch.ones(2, 3, device=THERE)
    layer = nn.Linear(3, 1).to(THERE)
    assert layer(x).device == THERE
    assert float(x.sum()) == 6
    assert torch.equal((x + 1).cpu(), torch.full((2, 3), 2.0))
    meetings = [lambda: x + torch.ones(2, 3), lambda: layer(torch.ones(2, 3)), lambda: torch.stack([x, torch.ones(2, 3)])]
    for mixed in meetings:
        with pytest.raises(RuntimeError, match="two devices"):
            mixed()
    with pytest.raises(TypeError, match="float64"):
        x.double()


@pytest.mark.parametrize("name", tiny.operators())
def test_operators(name: str) -> None:
    operator = tiny.operators()[name]
    x = torch.randn(2, *operator.domain, device=THERE)
    y = operator(x)
    assert y.device == operator.adjoint(y).device == THERE


def test_an_operator_of_numbers_that_lie_there() -> None:
    operator = ChannelMix(torch.eye(3).flip(0).to(THERE), (3, 4, 5))
    y = operator(torch.randn(2, 3, 4, 5, device=THERE))
    assert y.device == operator.pinv(y).device == THERE


def test_measurements_that_lie_there() -> None:
    """The gain and the offset of an item lie on the processor."""
    one = torch.ones(1, 1, 1, 1)
    affine, y = Affine(2 * one, one, (3, 4), (0, 0)), torch.ones(1, 1, 3, 4, device=THERE)
    problem = Problem.on_item(Mask(one, (1, 3, 4)), y, 0.0, Solver(), affine, (1, 4, 4))
    assert problem.y.device == THERE
    assert torch.equal(problem.y.cpu(), torch.zeros(1, 1, 3, 4))


@pytest.fixture
def model(pipe: Pipeline) -> Model:
    """An untrained one of 8 x 8 pictures."""
    return pipe.to(THERE).model


@pytest.mark.parametrize("name", ["stochastic-heun", "dpm-solver++"])
def test_samplers(name: str, model: Model) -> None:
    condition = Condition(label=torch.full((2,), 3))
    samples = sampler_named(name).sample(model, (2, 1, 8, 8), few_step_levels(4), SampleRandomness([1, 2]), condition)
    assert samples.x.device == THERE


@pytest.mark.parametrize("name", tiny.solvers())
def test_solvers(name: str, model: Model) -> None:
    operator = Mask(torch.arange(64).view(1, 1, 8, 8) % 3 > 0, (1, 8, 8))
    problem = Problem(operator, torch.ones(1, 1, 8, 8), 0.1, tiny.solvers()[name])
    samples = Multistep().sample(model, (2, 1, 8, 8), few_step_levels(3), SampleRandomness([1, 2]), problem=problem)
    assert samples.x.device == THERE


def test_samples_are_those_of_the_processor() -> None:
    there = shipped("digits").generate([3], [80.0, 0.5])
    with torch.utils._python_dispatch._disable_current_modes():
        expected = Pipeline.from_pretrained("digits").generate([3], [80.0, 0.5])
    assert there.x.device == THERE
    assert torch.allclose(there.x.cpu(), expected.x, atol=1e-3)


TASKS = {
    "sound": ("spoken-digits", "audio/inputs/digit-3-jackson.wav", "inpaint", {"start": [0.2], "end": [0.3]}),
    "mri": ("head-mr", "head-t1.nii.gz", "mri", {"simulate": True}),
    "volume": ("head-mr", "head-t1.nii.gz", "inpaint", {"box": (-10, -10, -100, 10, 10, 100)}),
}


@pytest.mark.parametrize("case", TASKS)
def test_tasks(case: str, tmp_path: Path) -> None:
    model, name, task, options = TASKS[case]
    pipe = shipped(model)
    source = ROOT / name if "/" in name else slices(name, tmp_path)
    outcome = pipe.solve(pipe.modality.tasks[task].verb, source, task, options, steps=2)
    assert outcome.nfe == 2
    outcome.save(tmp_path / "out")
