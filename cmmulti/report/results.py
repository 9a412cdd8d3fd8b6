"""``results.json``: what a command did, what it cost and how good it is, for scripts and for the page."""

from __future__ import annotations

import json
import math
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

from cmmulti.config.checking import checked
from cmmulti.files import read_json, replacing

RESULTS = "results.json"
LARGEST_RESULTS = 64_000_000


def package_version() -> str:
    """Version of the installed package, for provenance."""
    try:
        return version("cmmulti")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return "unknown"


def _finite(value: Any) -> Any:
    """JSON has no infinity: a figure that is not finite (PSNR of equal pictures) is written as null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _inside(path: str) -> str:
    """A relative path that stays inside the folder; a results file may come from anybody."""
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\")) or PureWindowsPath(path).drive or "\x00" in path or {"", ".", ".."} & set(parts):
        raise ValueError(f"expected a path inside the folder, got {path!r}")
    return path


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A number, or null where it is not finite or not defined."""

InnerPath = Annotated[str, AfterValidator(_inside)]
"""A path relative to the result folder."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Output(_Record):
    """One result: its file, the seed it came from and its class."""

    file: InnerPath
    seed: int | None = None
    label: int | str | None = None


class MediaRecord(_Record):
    """A picture or player of the page, as files of the folder."""

    kind: Literal["picture", "player"]
    file: InnerPath
    caption: str = ""
    alt: str = ""
    pixelated: bool = False
    width: int | None = None
    mime: str = "image/png"
    picture: MediaRecord | None = None


class Table(_Record):
    """Figures in rows. ``columns`` names them all, the first being the row's own name."""

    caption: str = ""
    columns: list[str]
    rows: list[list[Number | str]]


class RowRecord(_Record):
    """Pictures and players in a row under its name, to be compared with the rows above and below."""

    title: str
    text: str = ""
    media: list[MediaRecord] = Field(default_factory=list)


class SectionRecord(_Record):
    """One section of the page: words, pictures and players, tables; or rows of media with a name for each column."""

    title: str
    text: str = ""
    media: list[MediaRecord] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    columns: list[str] = Field(default_factory=list)
    rows: list[RowRecord] = Field(default_factory=list)

    @property
    def all_media(self) -> list[MediaRecord]:
        """Those of its rows, too."""
        return [*self.media, *(record for row in self.rows for record in row.media)]


class Part(_Record):
    """A result folder inside another, embedded in its page under ``title``."""

    folder: InnerPath
    title: str = ""
    text: str = ""


class Results(_Record):
    """The content of ``results.json``.

    Args:
        command: as it was typed. model: name or folder. task: ``sample``, ``inpaint``, ``mri``, ...
        steps: noise levels visited. nfe: network evaluations per sample, guidance and the problem's own counted.
        seconds: wall time of the work, files excluded.
        metrics: figures by name; baselines: the same for each simpler answer.
        outputs: the results alone, in seed order. together: files that several results were summed up in, such as their
            mean. measurement: the file of a simulated measurement.
        levels: the noise levels themselves, decreasing. sampler: its name. device: that of the model, such as ``cuda:0``.
        version: of cmmulti.
        notes: what a reader must know before trusting the figures. details: further facts of the command.
        sections: what the page shows. parts: result folders inside this one, whose pages it embeds.
    """

    command: str
    model: str
    task: str
    steps: int | None = None
    nfe: int | None = None
    seconds: Number = None
    metrics: dict[str, Number] = Field(default_factory=dict)
    baselines: dict[str, dict[str, Number]] = Field(default_factory=dict)
    outputs: list[Output] = Field(default_factory=list)
    together: list[InnerPath] = Field(default_factory=list)
    measurement: InnerPath | None = None
    notes: list[str] = Field(default_factory=list)
    levels: list[FiniteFloat] = Field(default_factory=list)
    sampler: str | None = None
    device: str = "cpu"
    version: str = Field(default_factory=package_version)
    details: dict[str, Any] = Field(default_factory=dict)
    sections: list[SectionRecord] = Field(default_factory=list)
    parts: list[Part] = Field(default_factory=list)


def write_results(results: Results, folder: Path) -> Path:
    """Write ``results.json`` into ``folder``, whole or not at all."""
    path = folder / RESULTS
    write_text(path, as_json(results) + "\n")
    return path


def as_json(results: Results) -> str:
    """The text of ``results.json``; ASCII, so that any terminal shows it and any script reads it."""
    return json.dumps(results.model_dump(mode="json"), indent=2, allow_nan=False)


def read_results(folder: Path) -> Results:
    """The results of ``folder``.

    Raises:
        UserError: there is no ``results.json``, or it is not what :func:`write_results` writes.
    """
    path = folder / RESULTS
    raw = read_json(path, "the results of a cmmulti command", LARGEST_RESULTS)
    return checked(Results, raw, str(path))


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all; what is no text (a file name may not be) is escaped."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
