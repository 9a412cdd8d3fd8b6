"""Archives of arrays appear whole or not at all, and what keeps them from it is told in one line."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmmulti.errors import UserError
from cmmulti.files import write_arrays
from modalities.volume.ct.sinogram import Sinogram, save_sinogram
from modalities.volume.mri.kspace import KSpace, save_kspace

NOISE = np.random.default_rng(0).standard_normal((4, 128, 128)).astype(np.float32)


def arrays(path: Path) -> Path:
    return write_arrays(path, {"first": NOISE, "second": np.arange(5)})


def kspace(path: Path) -> Path:
    return save_kspace(KSpace(NOISE[:, None].astype(np.complex64), np.ones(128, bool), np.eye(4)), path)


def sinogram(path: Path) -> Path:
    return save_sinogram(Sinogram(NOISE, np.arange(128.0), 1.0, None, np.eye(4)), path)


WRITERS = [arrays, kspace, sinogram]


@pytest.fixture
def full() -> Callable[[Callable[[], object]], None]:
    """Runs something while no file may grow beyond 100,000 bytes, as on a disk that is nearly full."""

    def run(what: Callable[[], object]) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            what()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return run


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_leaves_the_former_file_and_nothing_else(
    tmp_path: Path, full: Callable[[Callable[[], object]], None], write: Callable[[Path], Path]
) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(UserError, match=r"x\.npz: cannot be written"):
        full(lambda: write(path))
    assert list(tmp_path.iterdir()) == []
    former = write(path).read_bytes()
    with pytest.raises(UserError):
        full(lambda: write(path))
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]
    assert path.read_bytes() == former


@pytest.mark.parametrize("write", WRITERS)
def test_a_missing_folder_is_made_and_a_file_in_its_place_is_told(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    assert write(tmp_path / "new" / "x.npz").is_file()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file/x\.npz: cannot be written"):
        write(tmp_path / "file" / "x.npz")


def test_a_killed_writer_leaves_no_archive(tmp_path: Path) -> None:
    """Killed between two arrays: the file of that name is missing, and what is left is hidden."""
    program = (
        "import os, signal, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from cmmulti.files import write_arrays\n"
        "class Killing:\n"
        "    def __array__(self, dtype=None, copy=None):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_arrays(Path(sys.argv[1]), {'a': np.random.rand(9999), 'b': Killing()})\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "x.npz")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [p for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


def test_arrays_come_back_without_pickle(tmp_path: Path) -> None:
    with np.load(arrays(tmp_path / "x.npz"), allow_pickle=False) as archive:
        assert np.array_equal(archive["first"], NOISE)
        assert archive["second"].tolist() == [0, 1, 2, 3, 4]
