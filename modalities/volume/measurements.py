"""The input of a task on measurements: measured, or measured of a scan where the options ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from cmmulti.errors import UserError
from cmmulti.modality import Item
from modalities.volume.item import Volume

M = TypeVar("M")


@dataclass(frozen=True)
class Measurements(Generic[M]):
    """What a task takes as measured.

    Args:
        kind: class of a measurement. loaders: suffix of a file (lower case, with the dot) -> what reads one from it.
        name: in words, with its article.
        scan: the scan that one is simulated from, in words. simulation: the options that a simulation alone heeds.
    """

    kind: type[M]
    loaders: Mapping[str, Callable[[Path], M]]
    name: str
    scan: str
    simulation: tuple[str, ...]

    def of(
        self,
        source: Path | Item,
        options: Any,
        load_scan: Callable[[Path], Volume],
        simulated: Callable[[Volume], M],
    ) -> tuple[M, Volume | None]:
        """The measurement in ``source``, and the scan that it is simulated from, None where it was measured.

        Args:
            source: a measurement's file, a scan's, or what is in either. options: ``simulate`` says whether to.

        Raises:
            UserError: neither, unreadable, or an option that was given, be it with its default, asks for what ``source``
                is not.
        """
        name = input_name(source)
        if isinstance(source, Path) and (load := self.loaders.get(source.suffix.lower())):
            source = load(source)
        if isinstance(source, self.kind):
            if options.simulate:
                raise UserError(f"{name}: is {self.name} already; leave out --simulate")
            if given := [option for option in self.simulation if _given(options, option)]:
                flags = ", ".join("--" + option.replace("_", "-") for option in given)
                are, them = ("is", "it") if len(given) == 1 else ("are", "them")
                raise UserError(f"{name}: is {self.name}, and {flags} {are} for a simulation; leave {them} out")
            return source, None
        if not options.simulate:
            suffixes = ", ".join(self.loaders)
            raise UserError(f"{name}: expected {self.name} ({suffixes}); {self.scan} is accepted with --simulate")
        truth: Volume = load_scan(source) if isinstance(source, Path) else source
        return simulated(truth), truth


def input_name(source: Path | Item) -> str:
    """What messages call an input."""
    return str(source) if isinstance(source, Path) else "input"


def _given(options: Any, name: str) -> bool:
    """Whether an option was set; None stands for what was not."""
    return name in options.model_fields_set and getattr(options, name) is not None
