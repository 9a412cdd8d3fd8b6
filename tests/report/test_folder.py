"""Result folders appear whole or not at all, and never take others' files along."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cmmulti.errors import UserError
from cmmulti.report import ResultFolder, check_free
from cmmulti.report import folder as module
from cmmulti.report.folder import remove_former
from cmmulti.report.results import Output


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def fail(folder: Path, error: BaseException, overwrite: bool = False) -> None:
    with ResultFolder(folder, overwrite) as target:
        (target.path / "half").write_text("x")
        raise error


def test_everything_is_there_at_once(tmp_path: Path, make: Callable[..., Path]) -> None:
    folder = make(tmp_path / "a" / "b")
    assert {"results.json", "index.html", "sample-0.png", "pictures/01-samples-01.png", "sounds/02-sounds-01.wav"} <= names(
        folder
    )
    assert [path.name for path in folder.parent.iterdir()] == ["b"]


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "a" / "b", ZeroDivisionError())
    assert not any(tmp_path.iterdir())


def test_a_folder_that_was_there_stays_empty_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path, KeyboardInterrupt())
    assert not any(tmp_path.iterdir())


def test_a_used_folder_is_refused(tmp_path: Path, make: Callable[..., Path]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"not empty \(it holds thesis\.tex\).*--overwrite"):
        make(tmp_path)


def test_the_log_of_a_failed_run_does_not_count(tmp_path: Path, make: Callable[..., Path]) -> None:
    (tmp_path / "error.log").write_text("Traceback")
    make(tmp_path)
    assert "error.log" not in names(tmp_path)


def test_overwriting_replaces_former_results_and_nothing_else(tmp_path: Path, make: Callable[..., Path]) -> None:
    make(tmp_path)
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "pictures" / "mine.png").write_text("mine")
    with ResultFolder(tmp_path, overwrite=True) as target:
        (target.path / "sample-9.png").write_text("new")
    assert names(tmp_path) == {"thesis.tex", "pictures/mine.png", "sample-9.png"}


def test_former_results_survive_a_failed_overwrite(tmp_path: Path, make: Callable[..., Path]) -> None:
    before = names(make(tmp_path))
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path, ZeroDivisionError(), overwrite=True)
    assert names(tmp_path) == before


def test_a_hostile_former_result_cannot_delete_other_files(tmp_path: Path, make: Callable[..., Path]) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    folder = make(tmp_path / "out")
    text = (folder / "results.json").read_text().replace('"sample-0.png"', '"../precious"')
    (folder / "results.json").write_text(text)
    with ResultFolder(folder, overwrite=True):
        pass
    assert precious.exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_or_unwritable_disk_is_the_users_to_mend(tmp_path: Path, code: int) -> None:
    with pytest.raises(UserError, match="out: cannot be written"), ResultFolder(tmp_path / "out"):
        raise OSError(code, os.strerror(code))
    assert not any(tmp_path.iterdir())


def test_a_library_that_words_a_full_disk_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="no space left"), ResultFolder(tmp_path / "out"):
        raise RuntimeError("Error writing sound file: unknown error")


def test_errors_name_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught, ResultFolder(tmp_path / "out") as target:
        raise UserError(f"{target.path / 'x.png'}: cannot write it")
    assert str(caught.value) == f"{tmp_path / 'out' / 'x.png'}: cannot write it"


def test_an_unreadable_input_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), ResultFolder(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/input.png")


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nothing/below", "x" * 300])
def test_an_impossible_place_is_refused_before_the_work(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written|is a file"):
        check_free(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_free(tmp_path / "a" / "b")
    assert not any(tmp_path.iterdir())


def test_a_former_result_deletes_nothing_through_links_or_as_itself(tmp_path: Path, make: Callable[..., Path]) -> None:
    former = make(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("mine")
    (former / "link").symlink_to(tmp_path / "mine")
    results = json.loads((former / "results.json").read_text())
    results["outputs"] = [{"file": "link/precious.txt"}]
    results["parts"] = []
    (former / "results.json").write_text(json.dumps(results))
    remove_former(former)
    assert (tmp_path / "mine" / "precious.txt").read_text() == "mine"
    assert not (former / "results.json").exists()


@pytest.mark.parametrize("path", [".", "./a.txt", "a/./b", "a//b", "a/"])
def test_a_result_names_no_folder_as_its_own_part(path: str) -> None:
    with pytest.raises(ValueError, match="expected a path inside the folder"):
        Output(file=path)


def test_results_are_not_written_through_a_link_nor_half_over_a_folder(tmp_path: Path, make: Callable[..., Path]) -> None:
    out, elsewhere = make(tmp_path / "run"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (out / "linked").symlink_to(elsewhere)
    (out / "kept").mkdir()
    before = sorted(p.name for p in out.iterdir())

    def write(name: str) -> None:
        with ResultFolder(out, overwrite=True) as folder:
            (folder.path / "a.txt").touch()
            (folder.path / name).parent.mkdir(exist_ok=True)
            (folder.path / name).touch()

    for name, told in (("linked/a.png", "linked: leads out of"), ("kept", "kept: is a folder")):
        with pytest.raises(UserError, match=told):
            write(name)
        assert sorted(p.name for p in out.iterdir()) == before
    assert not list(elsewhere.iterdir())
