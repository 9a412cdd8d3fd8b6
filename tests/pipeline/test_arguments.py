"""What a notebook hands to a pipeline: numbers of NumPy and PyTorch, and things that are no numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.pipeline import Pipeline
from cmmulti.samplers.multistep import Multistep
from modalities.image.picture import Picture


@pytest.mark.parametrize("seeds", [torch.tensor([3, 4]), np.array([3, 4])])
def test_a_seed_is_the_same_seed_in_any_type(pipe: Pipeline, seeds: Any) -> None:
    levels = pipe.levels(2)
    assert torch.equal(pipe.generate(seeds, levels).x, pipe.generate([3, 4], levels).x)


def test_an_outcome_holds_plain_numbers_whatever_it_was_asked_with(pipe: Pipeline) -> None:
    outcome = pipe.sample(
        n=torch.tensor(2),  # type: ignore[arg-type]
        seed=np.int64(5),  # type: ignore[arg-type]
        label=torch.tensor(7),  # type: ignore[arg-type]
        levels=torch.tensor([80.0, 1.0]),  # type: ignore[arg-type]
    )
    assert (outcome.seeds, outcome.labels, outcome.levels) == ([5, 6], [7, 7], [80.0, 1.0])
    assert {type(v) for v in (*outcome.seeds, *outcome.labels)} == {int}
    few = pipe.edit(Picture(np.full((8, 8, 1), 9, np.uint8)), "denoise", {"sigma": 20}, steps=np.int64(3))
    assert {type(v) for v in (*outcome.levels, *few.levels, *pipe.levels(np.int64(3)))} == {float}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"n": 2.0}, "n: expected a whole number, got 2.0"),
        ({"steps": 2.5}, "steps: expected a whole number, got 2.5"),
        ({"steps": "2"}, "steps: expected a whole number, got '2'"),
        ({"seed": None}, "seed: expected a whole number, got None"),
        ({"seed": torch.Generator()}, "seed: expected a whole number, got <torch"),
        ({"label": "7"}, "label: expected 0 to 9, got '7'"),
        ({"levels": 80.0}, "levels: expected decreasing noise levels, got 80.0"),
        ({"levels": ["high"]}, r"levels: expected decreasing noise levels, got \['high'\]"),
        ({"sampler": Multistep()}, r"sampler: expected a name, got Multistep\(\)"),
    ],
)
def test_what_is_no_number_or_name_is_refused_by_the_name_of_its_argument(
    pipe: Pipeline, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        pipe.sample(**how)


def test_seeds_and_samples_that_are_no_whole_numbers_are_refused(pipe: Pipeline) -> None:
    with pytest.raises(UserError, match=r"seeds: expected a whole number, got 0.5"):
        pipe.generate([0.5], [80.0])  # type: ignore[list-item]
    with pytest.raises(UserError, match="seeds: expected a list of seeds, got 3"):
        pipe.generate(3, [80.0])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"samples: expected a whole number, got 1.5"):
        pipe.edit("x.png", "denoise", {"sigma": 20}, samples=1.5)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta:x"])
def test_a_device_that_is_not_here_is_refused(pipe: Pipeline, device: str) -> None:
    with pytest.raises(UserError, match=f"device: expected one that PyTorch has here, got '{device}'"):
        pipe.to(device)
    with pytest.raises(UserError, match=f"device: expected one that PyTorch has here, got '{device}'"):
        Pipeline.from_pretrained("digits", device=device)
