"""A result folder that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from cmmulti.errors import UserError
from cmmulti.report.page import PAGE, write_page
from cmmulti.report.results import RESULTS, MediaRecord, Results, read_results, write_results
from cmmulti.report.sections import Section, save_sections

LOG = "error.log"
STAGING = ".cmmulti-part-"
IGNORED = frozenset({LOG, ".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that do not make a folder count as used: the log of a failed run and what file managers leave."""

UNWRITABLE = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "disk quota exceeded",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "a file of that name exists",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOENT: "the folder cannot be made here",
    errno.EIO: "input/output error",
    errno.ELOOP: "too many symbolic links",
}
NEARLY_FULL = 65_536
"""Free bytes below which a failure while writing is put down to the disk, whatever the library called it."""


class ResultFolder:
    """The folder that a command writes its results to.

    Everything is written below :attr:`path`, a temporary folder, and moved into place when the ``with`` block ends well;
    when it does not, nothing is left behind. ``overwrite`` replaces the results of an earlier run; files that no run of
    ours wrote stay.

    Raises:
        UserError: the folder holds files and ``overwrite`` is not set, or it cannot be written.

    Example:
        >>> with ResultFolder(out) as folder:
        ...     pipe.save(item, folder.path / "sample-0.png")
        ...     folder.write(Results(command=..., model=..., task=...), [Section("Samples", media=pictures)])
    """

    def __init__(self, target: str | Path, overwrite: bool = False) -> None:
        self.target = Path(target)
        self.overwrite = overwrite
        self._staging: Path | None = None
        self._made: list[Path] = []

    @property
    def path(self) -> Path:
        """Where to write; exists inside the ``with`` block only."""
        if self._staging is None:
            raise RuntimeError("ResultFolder.path is there inside its `with` block only")
        return self._staging

    def write(self, results: Results, sections: Sequence[Section] = ()) -> Results:
        """Save the sections' media, ``results.json`` and ``index.html``; returns the results as written."""
        complete = results.model_copy(update={"sections": [*results.sections, *save_sections(sections, self.path)]})
        write_results(complete, self.path)
        write_page(self.path, complete)
        return complete

    def __enter__(self) -> ResultFolder:
        refuse_used(self.target, self.overwrite)
        try:
            # An existing folder may be a mount point, which cannot be replaced: stage inside it, else beside it.
            home = self.target if self.target.is_dir() else self.target.absolute().parent
            self._make_parents(home)
            self._staging = Path(tempfile.mkdtemp(dir=home, prefix=STAGING))
        except OSError as error:
            self._remove_parents()
            raise unwritable(self.target, error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        staging, failure = self.path, error
        if error is None:
            try:
                self._publish(staging)
            except (OSError, UserError) as problem:
                failure = problem
        free = _free_bytes(staging)
        self.discard()
        if failure is None:
            return
        if isinstance(failure, UserError) and str(staging) in str(failure):  # its name means nothing to anybody
            raise UserError(str(failure).replace(str(staging), str(self.target))) from failure
        if isinstance(failure, OSError) and failure.errno in UNWRITABLE and _within(failure, staging):
            raise unwritable(self.target, failure) from failure
        if isinstance(failure, Exception) and not isinstance(failure, UserError) and free < NEARLY_FULL:
            raise UserError(f"{self.target}: cannot be written: {UNWRITABLE[errno.ENOSPC]}") from failure
        if error is None:
            raise failure

    def _publish(self, staging: Path) -> None:
        if self.target.is_dir():
            _refuse_clashes(staging, self.target)
            remove_former(self.target)
            _merge(staging, self.target)
        else:
            staging.chmod(0o755)
            staging.rename(self.target)

    def discard(self) -> None:
        """Remove what is staged, and the folders that were made for it where they are empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._staging = None
        self._remove_parents()

    def _make_parents(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            self._made.append(parent)

    def _remove_parents(self) -> None:
        for parent in reversed(self._made):
            try:
                parent.rmdir()
            except OSError:
                break
        self._made = []


def check_free(target: Path, overwrite: bool = False) -> None:
    """Refuse a folder that cannot be written to before any work is done; it is tried, and nothing is left of it.

    Raises:
        UserError: it is a file, holds files while ``overwrite`` is not set, or cannot be written.
    """
    ResultFolder(target, overwrite).__enter__().discard()


def refuse_used(target: Path, overwrite: bool = False) -> None:
    """Refuse a folder that holds files, unless they may be replaced.

    Raises:
        UserError: it is a file, holds files while ``overwrite`` is not set, or cannot be read.
    """
    try:
        if target.is_symlink() and not target.exists():
            raise UserError(f"{target}: a link that leads nowhere; expected a folder for the results")
        if target.exists() and not target.is_dir():
            raise UserError(f"{target}: is a file; expected a folder for the results")
        used = next((p.name for p in target.iterdir() if not _ignored(p.name)), None) if target.is_dir() else None
    except OSError as error:
        raise unwritable(target, error) from error
    if used is not None and not overwrite:
        raise UserError(
            f"{target}: the folder is not empty (it holds {used}); name another one or pass --overwrite, "
            "in Python overwrite=True"
        )


def _ignored(name: str) -> bool:
    return name in IGNORED or name.startswith(STAGING)


def unwritable(target: Path, error: OSError) -> UserError:
    """The user's error for a folder or file that cannot be written."""
    reason = UNWRITABLE.get(error.errno or 0, error.strerror or str(error))
    return UserError(f"{target}: cannot be written: {reason}")


def _within(error: OSError, staging: Path) -> bool:
    """Whether the failure belongs to the results rather than to an input (a full disk has no file name)."""
    name = error.filename2 or error.filename
    return not isinstance(name, str) or Path(name).absolute().is_relative_to(staging.absolute().parent)


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return NEARLY_FULL


def remove_former(folder: Path) -> None:
    """Remove the results of an earlier run from ``folder``; anything else stays."""
    (folder / LOG).unlink(missing_ok=True)
    if not (folder / RESULTS).is_file():
        return
    try:
        former = read_results(folder)
    except UserError:  # damaged: its own files cannot be told from others, and are replaced by name alone
        return
    for part in former.parts:
        inner = folder / part.folder
        if (inner / RESULTS).is_file() and not _leads_out(folder, inner):
            remove_former(inner)
            _remove_empty(inner)
    names = {RESULTS, PAGE, *(output.file for output in former.outputs), *former.together}
    if former.measurement is not None:
        names.add(former.measurement)
    for section in former.sections:
        for record in section.media:
            names |= _files(record)
    ours = [folder / name for name in names if not _leads_out(folder, (folder / name).parent)]
    for path in ours:
        if not path.is_dir():
            path.unlink(missing_ok=True)
    for below in sorted({path.parent for path in ours} - {folder}, reverse=True):
        _remove_empty(below)


def _leads_out(folder: Path, below: Path) -> bool:
    """Whether a link on the way from a folder to one that its results name leads elsewhere: no results lie there."""
    return not below.resolve().is_relative_to(folder.resolve())


def _files(record: MediaRecord) -> set[str]:
    return {record.file} | (set() if record.picture is None else _files(record.picture))


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _refuse_clashes(source: Path, target: Path) -> None:
    """Refuse a folder that cannot take all the new files, before the first of them is moved.

    Raises:
        UserError: a link in it leads elsewhere, or a folder has the name of a file.
    """
    for path in (p for p in source.rglob("*") if not p.is_dir()):
        goal = target / path.relative_to(source)
        if _leads_out(target, goal.parent):
            raise UserError(f"{goal.parent}: leads out of {target}; expected a folder inside it")
        if goal.is_dir() and not goal.is_symlink():
            raise UserError(f"{goal}: is a folder; expected no folder of that name, for a file of the results")


def _merge(source: Path, target: Path) -> None:
    """Move every file, ``results.json`` last: it vouches for the others."""
    found = [p for p in source.rglob("*") if not p.is_dir()]
    for path in sorted(found, key=lambda p: (p == source / RESULTS, p)):
        goal = target / path.relative_to(source)
        goal.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, goal)
