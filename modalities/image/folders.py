"""One's own pictures: a folder or a zip archive of PNG and JPEG files, with class folders or without."""

from __future__ import annotations

import logging
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cmmulti.config.checking import checked
from cmmulti.errors import UserError
from cmmulti.files import DAMAGED_ARCHIVE, files_below
from cmmulti.modality import DataSource, Split
from modalities.image import files, representation
from modalities.image.arrays import PictureArray, SplitOptions, data_root, distinct, divide
from modalities.image.picture import Picture

LARGEST_SET = 16 * 2**30
"""Most bytes of decoded pictures held in memory."""
SPLITS: tuple[Split, ...] = ("test", "val", "train")

log = logging.getLogger("cmmulti")


class FolderOptions(SplitOptions):
    """``fit``: how a picture of another size comes to the model's: ``crop`` (reduced or enlarged until it covers it, then
    the middle) or ``stretch``. ``val``, ``test``: fractions held out, where no folders of these names say which.
    """

    fit: Literal["crop", "stretch"] = "crop"
    val: float = Field(0.1, ge=0, lt=0.5)
    test: float = Field(0.1, ge=0, lt=0.5)


class Entry(NamedTuple):
    """One picture file: in which archive (None: a file of its own), its name there or path, the folders that classify it
    and its own name, and a number that changes with its content."""

    archive: Path | None
    file: str
    parts: tuple[str, ...]
    stamp: int

    @property
    def name(self) -> str:
        return self.file if self.archive is None else f"{self.archive}:{self.file}"


def folder(source: DataSource, split: Split, size: tuple[int, int], channels: int) -> PictureArray:
    """One split of the pictures below ``source.root``.

    Folders ``train``, ``val`` and ``test`` at the top are the splits; what is missing is drawn from ``train`` (or from all)
    by a seed. Where every picture lies in a folder of its own split, these folders are the classes, in alphabetical order.
    A picture that occurs twice is kept once, in the test split before the others.

    Raises:
        UserError: nothing readable; a damaged file, unless ``source.on_bad_file`` is ``skip``: then it is named in the log.
    """
    options = checked(FolderOptions, dict(source.options), "data.options")
    root = data_root(source)
    entries = _without_common_folder(list(_archive(root) if root.is_file() else _folder(root)))
    if not entries:
        raise UserError(f"{root}: no picture found; expected files ending in {', '.join(files.SUFFIXES)}")
    found, array = _decoded(root, tuple(entries), size, channels, options.fit, source.on_bad_file == "skip")
    tops = {e.parts[0] for e in found}
    given = tops <= set(SPLITS) and "train" in tops and all(len(e.parts) > 1 for e in found)
    below = [e.parts[1:] if given else e.parts for e in found]
    parts = _split(array, [e.parts[0] if given else "" for e in found], options)
    classes = sorted({p[0] for p in below}) if all(len(p) > 1 for p in below) else []
    index = {name: i for i, name in enumerate(classes)}
    chosen = parts[split]
    labels = np.array([index[below[i][0]] for i in chosen], dtype=np.int64) if classes else None
    names = [found[i].name for i in chosen]
    return PictureArray(array[chosen], labels, names, classes, options.flip and split == "train")


def _split(
    array: NDArray[np.unsignedinteger], given: Sequence[str], options: FolderOptions
) -> dict[Split, NDArray[np.int64]]:
    """Indices of each split, without duplicates. ``given``: the split that each picture lies in, or empty."""
    where = np.array(given)
    seen: set[bytes] = set()
    parts: dict[Split, NDArray[np.int64]] = {}
    for name in SPLITS:
        mine = np.flatnonzero((where == name) | ((where == "") & (name == "train")))
        parts[name] = mine[distinct(array[mine], seen)]
    missing = [name for name in ("val", "test") if name not in given]
    train = parts["train"]
    val, test = [getattr(options, name) if name in missing else 0.0 for name in ("val", "test")]
    drawn = divide(len(train), options.split_seed, val, test)
    for name in SPLITS:
        if name == "train" or name in missing:
            parts[name] = train[drawn[name]]
    return parts


@lru_cache(maxsize=1)
def _decoded(
    root: Path, entries: tuple[Entry, ...], size: tuple[int, int], channels: int, fit: str, skip: bool
) -> tuple[list[Entry], NDArray[np.unsignedinteger]]:
    """The readable entries, and their pictures at the model's size: 8 bit, or 16 where one of them is."""
    needed = len(entries) * size[0] * size[1] * channels
    if needed > LARGEST_SET:
        raise UserError(f"{root}: {len(entries)} pictures need {needed} bytes of memory; expected {LARGEST_SET} at most")
    kept: list[Entry] = []
    pictures: list[NDArray[np.unsignedinteger]] = []
    with zipfile.ZipFile(root) if root.is_file() else nullcontext() as archive:
        for entry in entries:
            try:
                picture = files.load(Path(entry.file)) if archive is None else _member(archive, entry)
            except UserError as error:
                if not skip:
                    raise
                log.warning("skipped: %s", error)
                continue
            kept.append(entry)
            pictures.append(representation.fit(picture, size, channels, fit).array)
    if not kept:
        raise UserError(f"{root}: none of its {len(entries)} picture files can be read")
    deep = any(p.dtype == np.uint16 for p in pictures)
    return kept, np.stack([p.astype(np.uint16) * 257 if deep and p.dtype == np.uint8 else p for p in pictures])


def _folder(root: Path) -> Iterator[Entry]:
    for path in files_below(root, files.SUFFIXES):
        yield Entry(None, str(path), path.relative_to(root).parts, path.stat().st_mtime_ns)


def _archive(path: Path) -> Iterator[Entry]:
    """The pictures of a zip archive, in the order of their names; it is read in place, nothing is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.infolist(), key=lambda m: m.filename)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: expected a folder or a zip archive of pictures ({error})") from error
    twice = [name for name, n in Counter(m.filename for m in members).items() if n > 1]
    if twice:
        raise UserError(f"{path}: member {twice[0]!r} is in it twice; expected every file once")
    for member in members:
        parts = PurePosixPath(member.filename).parts
        if ".." in parts or member.filename.startswith("/") or "\\" in member.filename:
            raise UserError(f"{path}: member {member.filename!r} points outside the archive")
        hidden = any(p.startswith((".", "__MACOSX")) for p in parts)
        if member.filename.lower().endswith(files.SUFFIXES) and not hidden:
            yield Entry(path, member.filename, parts, member.CRC)


def _member(archive: zipfile.ZipFile, entry: Entry) -> Picture:
    member = archive.getinfo(entry.file)
    if member.flag_bits & 1:
        raise UserError(f"{entry.name}: encrypted; expected an archive without a password")
    if member.file_size > files.LARGEST_FILE:
        raise UserError(f"{entry.name}: {member.file_size} bytes; expected a picture of at most {files.LARGEST_FILE}")
    try:
        with archive.open(member) as file:
            data = file.read(member.file_size + 1)
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{entry.name}: damaged in its archive ({error})") from error
    return files.decode(data, entry.name)


def _without_common_folder(entries: list[Entry]) -> list[Entry]:
    """Leave out leading folders that all pictures share: they are neither classes nor splits."""
    while entries and len({e.parts[0] for e in entries}) == 1 and all(len(e.parts) > 1 for e in entries):
        entries = [e._replace(parts=e.parts[1:]) for e in entries]
    return entries
