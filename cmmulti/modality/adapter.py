"""The adapter itself: files and units on one side, tensors in model space on the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from cmmulti.description import facts
from cmmulti.errors import UserError, unknown_name
from cmmulti.media import Media
from cmmulti.modality.data import DataSource, Item, Split, TrainingSet
from cmmulti.modality.task import Task
from cmmulti.operators.affine import Affine
from cmmulti.randomness import SampleRandomness


class ModalitySettings(BaseModel):
    """Base of an adapter's settings: all that turns files into model tensors and back. They travel with the model.

    None stands for a number that the training data decide (:meth:`Modality.measured`), never for anything else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


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

    def encode_marked(self, item: Item, mark: Any) -> Tensor:
        """(parts, C, *spatial): as :meth:`encode`, of where a task's constraint lies; results are compared with it.

        An adapter overrides it where ``encode`` leaves out parts of an item; ``mark`` is None where a task has none.
        """
        return self.encode(item)

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

    def summary(self, items: Sequence[Item]) -> tuple[Mapping[str, Item], list[Media]]:
        """What several answers to one task say together: items by name, saved beside the answers, and their pictures.

        Nothing by default. One named ``mean`` is an answer, too, and has figures where the truth is known.
        """
        return {}, []

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
