"""What a modality can do besides generating: a task turns an input into a problem to sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from cmmulti.modality.data import Item
from cmmulti.model import Model
from cmmulti.problems.base import Problem, Start
from cmmulti.randomness import SampleRandomness


class TaskOptions(BaseModel):
    """Base of a task's options: one field per command-line flag (``mask_kind`` is ``--mask-kind``), with a description."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Assignment:
    """A task on one input, ready to be sampled.

    Args:
        shape: (parts, C, *spatial) of the tensor to sample.
        finish: turns the sampled tensor (parts, C, *spatial) into the resulting item, in the item's own domain: what the
            user did not ask to change comes back untouched. Its randomness has one seed per part.
        problem: what the sample is held to; None where ``start`` says it all.
        start: where sampling starts; None for pure noise; a function where it depends on the seed.
        levels: number of steps -> decreasing noise levels; None for those of generation.
        label: class, for a model that knows classes.
        panels: items to show beside the result (``{"input": ...}``), in order.
        mark: the constraint (a hole, a mask) for ``Modality.render`` to mark and ``Modality.metrics`` to restrict to.
        truth: the right answer where it is known (a simulation, a reference). Nothing above may depend on it.
        baselines: simpler answers by name, computed only when asked for.
        measurement: writes the simulated measurement to a folder in the form of measured input and returns its file.
        notes: sentences for page, results and messages ("simulated from magnitude images, optimistic").
    """

    shape: tuple[int, ...]
    finish: Callable[[Tensor, SampleRandomness], Item]
    problem: Problem | None = None
    start: Start | Callable[[SampleRandomness], Start] | None = None
    levels: Callable[[int], Sequence[float]] | None = None
    label: int | None = None
    panels: Mapping[str, Item] = field(default_factory=dict)
    mark: Any = None
    truth: Item | None = None
    baselines: Mapping[str, Callable[[], Item]] = field(default_factory=dict)
    measurement: Callable[[Path], Path] | None = None
    notes: tuple[str, ...] = ()


class Task(ABC):
    """One way to use a model on a given input: name + options + item -> :class:`Assignment`."""

    name: ClassVar[str]
    verb: ClassVar[Literal["edit", "reconstruct"]]
    summary: ClassVar[str]
    Options: ClassVar[type[TaskOptions]] = TaskOptions
    needs_input: ClassVar[bool] = True
    """Whether there must be a file or item to work on; without it ``source`` may be None."""

    @abstractmethod
    def prepare(self, modality: Any, source: Path | Item, options: Any, model: Model) -> Assignment:
        """Read the input and state the problem.

        Args:
            modality: the adapter, with the settings of the model. source: a file, or an item already loaded.
            options: an instance of ``Options``. model: for its device and noise range; its estimate is not asked for.

        Raises:
            UserError: the input or an option does not fit; the message names it, its value and what was expected.
        """
