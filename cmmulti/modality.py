"""The contract between the core and an adapter.

An adapter knows files and units; the core knows tensors and noise. Everything that the core asks of pictures, sound or
scans is a method here, and everything that one modality can do besides generating is a :class:`Task`.

Words: an *item* is one picture, clip or volume in its own units, with all that is needed to write it back. Its
*representation* is a tensor (parts, C, *spatial), float32, in model space: one part for a picture or a clip, one per
slice for a volume under a 2D model. The network sees each part as a sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from cmmulti.description import facts
from cmmulti.errors import UserError, unknown_name
from cmmulti.media import Media
from cmmulti.model import Model
from cmmulti.operators.affine import Affine
from cmmulti.problems.base import Problem, Start
from cmmulti.randomness import SampleRandomness

Item = Any
"""One picture, clip or volume of an adapter's own type."""


class ModalitySettings(BaseModel):
    """Base of an adapter's settings: all that turns files into model tensors and back. They travel with the model.

    None stands for a number that the training data decide (:meth:`Modality.measured`), never for anything else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class TrainingSet(ABC):
    """Clean model tensors of one split.

    ``labels``: (n,) int64, ``NULL_LABEL`` where there is none. ``names``: where each came from, for error messages.
    ``class_names``: one per label, empty where there are no classes. ``licence``: of the data, an SPDX identifier, or
    ``unknown`` where their source states none; ``attribution``: who made them, as the licence asks for. Both are empty for
    a user's own files. A model's card repeats them.
    """

    labels: Tensor
    names: Sequence[str]
    class_names: Sequence[str] = ()
    licence: str = ""
    attribution: str = ""

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        """(C, *spatial) float32; augmented by draws from ``generator``, as it is when None."""

    @abstractmethod
    def item(self, index: int) -> Item:
        """The item itself, for evaluation."""

    @property
    def files(self) -> Sequence[str]:
        """The file of each item, by which a table of contexts names it; by default ``names``."""
        return self.names

    @property
    def cases(self) -> Sequence[str]:
        """Names of what tasks are evaluated on: every item, unless several of them are one subject's."""
        return self.names

    def case(self, number: int) -> Item:
        """The item that belongs to ``cases[number]``."""
        return self.item(number)


class DataSource(BaseModel):
    """Which data, below ``data:`` in a config: a data set's name or ``folder``, and where it lies.

    ``root``: the folder that holds data sets (or the folder of files itself); None reads ``CMMULTI_DATA``.
    ``on_bad_file``: ``error`` stops at an unreadable file and names it; ``skip`` names it and goes on.
    ``options``: further settings of the data set, checked by the adapter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    root: Path | None = None
    on_bad_file: Literal["error", "skip"] = "error"
    options: Mapping[str, Any] = {}


Split = Literal["train", "val", "test"]


def require_whole(x: Tensor, rank: int) -> None:
    """Refuse a tensor that no item can be made of, as a diverged model's is: the first line of every ``decode``.

    Raises:
        UserError: x is empty, of another rank than (parts, C, *spatial), or holds NaN or infinity.
    """
    if x.dim() != rank or not x.numel():
        raise UserError(f"a tensor to decode: expected {rank} axes (parts, C, *spatial), none empty, got {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        bad = int((~x.isfinite()).sum())
        raise UserError(f"a tensor to decode: {bad} of {x.numel()} values are NaN or infinite; expected finite ones")


class Modality(ABC):
    """An adapter. Made from its settings alone; pure but for files."""

    name: ClassVar[str]
    Settings: ClassVar[type[ModalitySettings]]
    tasks: ClassVar[Mapping[str, Task]] = {}
    extension: ClassVar[str]
    """Of the files that :meth:`save` writes for generated items, with the dot."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Of the files that the adapter reads, lower case, with the dot."""
    folder_items: ClassVar[bool] = False
    """Whether a folder can be one item, such as the slices of a scan."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of the tensors that a model of these settings generates."""

    @property
    def valid_range(self) -> tuple[float, float] | None:
        """Smallest and largest value of a representation, or None where it has no limits."""
        return None

    @abstractmethod
    def load(self, path: Path) -> Item:
        """Read a file whole, losing nothing. Raises UserError naming the file and what is wrong with it."""

    def describe(self, path: Path) -> dict[str, Any]:
        """Facts about any file that the adapter reads, an item or measured input, for ``cmmulti inspect``; plain JSON."""
        return facts(self.load(path))

    @abstractmethod
    def encode(self, item: Item) -> Tensor:
        """(parts, C, *spatial) float32 in model space."""

    @abstractmethod
    def decode(self, x: Tensor, like: Item | None = None, randomness: SampleRandomness | None = None) -> Item:
        """The item of (parts, C, *spatial). ``like`` lends geometry, rate and scale; without it the model's own serve."""

    @abstractmethod
    def save(self, item: Item, path: Path) -> Path:
        """Write an item; the file appears whole or not at all. Returns the file written (its suffix may be the item's)."""

    @abstractmethod
    def render(self, panels: Mapping[str, Item], reference: str | None = None, mark: Any = None) -> list[Media]:
        """Pictures and players of items side by side, on one stated scale.

        Args:
            panels: caption -> item. reference: the panel that the others' error maps are taken against, if any.
            mark: a task's constraint, to be shown.
        """

    def affine(self, item: Item) -> Affine | None:
        """Gain and offset where the representation is affine in the item, else None."""
        return None

    def metrics(self, result: Item, truth: Item, mark: Any = None) -> dict[str, float]:
        """Reference-based figures of a result (``psnr``, ``ssim``, ``nmse``, ...), restricted to ``mark`` where given."""
        return {}

    def specification(self) -> dict[str, str]:
        """What a model of these settings takes and makes, with units, for its card: name -> value, one line each.

        By default the settings as they are written.
        """
        return {name: str(value) for name, value in self.settings.model_dump(mode="json").items()}

    @abstractmethod
    def network(self) -> dict[str, Any]:
        """Default settings of the default network (``unet``) for these tensors."""

    def measured(self, source: DataSource) -> Self:
        """The adapter with what its settings leave open (None) measured on the train split; itself where nothing is.

        Asked once, when a run begins; the numbers then travel with the run and the model.
        """
        return self

    @abstractmethod
    def dataset(self, source: DataSource, split: Split) -> TrainingSet:
        """One split of a data set. Raises UserError where it is not found under ``source.root``, naming the folder."""

    def task(self, name: str, verb: str) -> Task:
        """The task called ``name`` of ``edit`` or ``reconstruct``; an unknown one is refused with those that exist."""
        known = {n: t for n, t in self.tasks.items() if t.verb == verb}
        if name not in known:
            raise unknown_name(f"{self.name} task for `{verb}`", name, known)
        return known[name]
