"""Only regular files are read: a pipe, device or folder in the place of one is told in one line, not waited for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cmmulti.config import read_yaml
from cmmulti.errors import UserError
from cmmulti.files import read_json
from cmmulti.training.folder import RECORD, read_record
from cmmulti.weights import read_weights

pytestmark = pytest.mark.timeout(60)

Run = Callable[..., tuple[int, str, str]]

KINDS: dict[str, Callable[[Path], None]] = {
    "named pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def in_place_of(path: Path, kind: str) -> Path:
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    return path


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_in_a_model_folder(cmmulti: Run, model: Path, tmp_path: Path, name: str, kind: str) -> None:
    folder = shutil.copytree(model, tmp_path / "m")
    in_place_of(folder / name, kind)
    for words in (["inspect", folder], ["sample", folder, "--out", tmp_path / "out"]):
        code, out, err = cmmulti(*words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"{name}: a {kind}; expected " in err


@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_json(path, "an object"),
        read_yaml,
        lambda path: read_weights(path, {}),
    ],
)
def test_readers(read: Callable[[Path], object], tmp_path: Path, kind: str) -> None:
    path = in_place_of(tmp_path / "x", kind)
    with pytest.raises(UserError, match=f"^{path}: a {kind}; expected "):
        read(path)


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_config_of_the_command_line(cmmulti: Run, tmp_path: Path, command: str, kind: str) -> None:
    path = in_place_of(tmp_path / "x.yaml", kind)
    code, out, err = cmmulti(command, path, "--dry-run")
    assert (code, out, err) == (2, "", f"error: {path}: a {kind}; expected a config\n")


def test_the_record_of_a_run_is_none(tmp_path: Path, kind: str) -> None:
    in_place_of(tmp_path / RECORD, kind)
    assert not read_record(tmp_path).command


SHOWN = "import sys; from pathlib import Path; from cmmulti.config import read_yaml; print(read_yaml(Path(sys.argv[1])))"


def test_a_config_that_a_shell_hands_over_is_read() -> None:
    """``cmmulti train <(...)`` and ``... | cmmulti train /dev/stdin``."""
    words = [sys.executable, "-c", SHOWN]
    done = subprocess.run([*words, "/dev/stdin"], input="a: 1\n", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{'a': 1}\n", "")
    end, begin = os.pipe()
    os.write(begin, b"b: 2\n")
    os.close(begin)
    done = subprocess.run([*words, f"/dev/fd/{end}"], pass_fds=[end], capture_output=True, text=True, check=False)
    os.close(end)
    assert (done.stdout, done.stderr) == ("{'b': 2}\n", "")


def test_a_config_without_end_is_not_read_to_its_end() -> None:
    with open("/dev/zero", "rb") as endless:
        done = subprocess.run(
            [sys.executable, "-c", SHOWN, "/dev/stdin"], stdin=endless, capture_output=True, text=True, check=False
        )
    assert "/dev/stdin: more than 1000000 bytes; expected a config of at most 1000000" in done.stderr
