"""Mistakes in the input end in one line and exit code 2; bugs in 70 with a log."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cmmulti.pipeline
from cmmulti.cli.failures import answered
from cmmulti.errors import users_fault
from cmmulti.pipeline import Pipeline


def refused(answer: tuple[int, str, str], *words: str) -> None:
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], ["COMMAND"]),
        (["sampel"], ["'sampel'", "did you mean 'sample'"]),
        (["sample"], ["MODEL", "--out"]),
        (["sample", "m"], ["--out"]),
        (["sample", "m", "--out", "x", "--sede", "1"], ["'--sede'", "did you mean --seed"]),
        (["sample", "m", "--out", "x", "more"], ["unexpected 'more'"]),
        (["sample", "m", "--out", "x", "--n", "0"], ["--n", "above 0", "'0'"]),
        (["sample", "m", "--out", "x", "--n", "many"], ["--n", "'many'"]),
        (["sample", "m", "--out", "x", "--seed", "-1"], ["--seed", "'-1'"]),
        (["sample", "m", "--out", "x", "--levels", "80;1"], ["80,0.8", "'80;1'"]),
        (["sample", "digits", "--out", "x", "--sampler", "hoin"], ["'hoin'", "did you mean 'heun'"]),
        (["sample", "m", "--out"], ["--out"]),
        (["edit", "m", "--out", "x"], ["--task"]),
        (["report"], ["DIR"]),
        (["inspect", "/nothing/here"], ["/nothing/here", "no such file"]),
        (["report", "/nothing/here"], ["/nothing/here", "expected a result folder"]),
    ],
)
def test_mistakes_in_the_words(cmmulti: Callable[..., tuple[int, str, str]], words: list[str], told: list[str]) -> None:
    refused(cmmulti(*words), *told)


def test_mistakes_in_the_values(cmmulti: Callable[..., tuple[int, str, str]], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(cmmulti("sample", tmp_path / "none", "--out", out), "none")
    refused(cmmulti("sample", model, "--out", out, "--label", "3"), "label", "0 to 2", "3")
    refused(cmmulti("sample", model, "--out", out, "--label", "three"), "zero, one, two", "'three'")
    refused(cmmulti("sample", model, "--out", out, "--levels", "1,2"), "strictly decreasing")
    refused(cmmulti("sample", model, "--out", out, "--device", "abacus"), "--device abacus")
    assert not out.exists()


def test_a_used_or_impossible_folder(cmmulti: Callable[..., tuple[int, str, str]], model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(cmmulti("sample", model, "--out", tmp_path), "not empty", "--overwrite")
    refused(cmmulti("sample", model, "--out", tmp_path / "file"), "is a file")
    refused(cmmulti("sample", model, "--out", tmp_path / "file" / "x"), "cannot be written")
    refused(cmmulti("sample", model, "--out", "/proc/x"), "/proc/x: cannot be written")


def test_a_full_disk(
    cmmulti: Callable[..., tuple[int, str, str]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(Pipeline.from_pretrained(model).modality), "save", full)
    refused(cmmulti("sample", model, "--n", "1", "--out", tmp_path / "out"), "no space left on the disk")
    assert not any(tmp_path.iterdir())


def cmmulti_pipeline() -> type[cmmulti.pipeline.Pipeline]:
    return cmmulti.pipeline.Pipeline


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("a bug")


def test_a_bug_leaves_its_traceback_in_a_log(
    cmmulti: Callable[..., tuple[int, str, str]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cmmulti_pipeline(), "sample", broken)
    code, _, err = cmmulti("sample", model, "--out", tmp_path / "out")
    assert code == 70
    assert "Traceback" not in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["error.log"]
    assert str(tmp_path / "out" / "error.log") in err
    log = (tmp_path / "out" / "error.log").read_text()
    assert "ZeroDivisionError: a bug" in log
    assert "cmmulti sample" in log
    monkeypatch.undo()
    assert cmmulti("sample", model, "--n", "1", "--out", tmp_path / "out")[0] == 0  # the log is not in the way


def test_a_bug_leaves_a_used_folder_alone(
    cmmulti: Callable[..., tuple[int, str, str]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis.tex").write_text("")
    monkeypatch.setattr(cmmulti_pipeline(), "sample", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path.parent))
    code, _, err = cmmulti("sample", model, "--out", tmp_path, "--overwrite")
    assert code == 70
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert Path(err.split()[-1]).read_text().count("ZeroDivisionError")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out of memory"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x.wav"), "/data/x.wav: Permission denied"),
        (RuntimeError("shapes do not match"), None),
        (ZeroDivisionError(), None),
        (FileNotFoundError(errno.ENOENT, "gone", cmmulti.pipeline.__file__), None),
    ],
)
def test_whose_fault_it_is(error: Exception, told: str | None) -> None:
    found = users_fault(error)
    assert found == told or (told is not None and found is not None and found.startswith(told))


def test_a_polite_kill_leaves_nothing(model: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom cmmulti.report import ResultFolder\nfrom cmmulti.cli.common import stoppable\nstoppable()\n"
        "with ResultFolder(sys.argv[1]) as folder:\n"
        "    (folder.path / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert time.perf_counter() - began < 30
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes that are no text")
def test_a_file_name_that_is_no_text_is_a_name_like_any_other(
    cmmulti: Callable[..., tuple[int, str, str]], model: Path, picture: Path, tmp_path: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd-\xff.png"))
    odd.write_bytes(picture.read_bytes())
    code, _, err = cmmulti("edit", model, "--task", "inpaint", "--input", odd, "--box", "1,1,3,3", "--out", tmp_path / "a")
    assert (code, err) == (0, "")
    assert "odd-\\udcff.png" in (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert cmmulti("sample", model, "--n", "1", "--out", odd.with_suffix(".d"))[0] == 0
    assert cmmulti("inspect", odd)[0] == 0


@pytest.mark.parametrize("how", ["few letters", "closed"])
def test_any_standard_output_will_do(model: Path, tmp_path: Path, how: str) -> None:
    model = Path(shutil.copytree(model, tmp_path / "model"))  # it is other tests' model, too
    (model / "README.md").write_text("Fréchet…", encoding="utf-8")
    program = "import sys; from cmmulti.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", program, "inspect", str(model)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    if how == "closed":
        words = ["sh", "-c", 'exec "$@" >&-', "sh", *words]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def ended(words: list[str], **streams: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, its standard output buffered as in a pipe."""
    program = "import sys; from cmmulti.cli import main; sys.exit(main())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run([sys.executable, "-c", program, *words], env=environment, text=True, check=False, **streams)


def test_a_reader_that_leaves_hears_no_complaint() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = ended(["--help"], stdout=writer)
        both = ended(["inspect", "/nothing/here"], stdout=writer, stderr=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert both.returncode == 2


def test_work_that_ends_because_nobody_reads_is_not_done() -> None:
    def left() -> argparse.Namespace:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    assert answered(left, []) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full here")
def test_output_that_cannot_be_written_is_told_in_one_line() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = ended(["inspect"], stdout=full)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes streams")
def test_messages_never_take_the_place_of_the_output() -> None:
    program = "import sys; from cmmulti.cli import main; sys.exit(main())"
    words = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", program, "inspect", "/nothing/here"]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among files here")
def test_pipes_and_devices_are_no_input(
    cmmulti: Callable[..., tuple[int, str, str]], model: Path, picture: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    words = ["edit", model, "--task", "inpaint", "--box", "1,1,3,3", "--out", tmp_path / "out", "--input"]
    refused(cmmulti(*words, pipe), "pipe.png", "device or pipe")
    refused(cmmulti(*words, "/dev/null"), "/dev/null")
    refused(cmmulti("inspect", pipe), "pipe.png")
    refused(cmmulti(*words[:4], "--mask", pipe, *words[6:], picture), "pipe.png")
