import importlib.abc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from cmmulti.errors import UserError
from modalities.audio.torchaudio_guard import EXTENSION, functional


class Broken(importlib.abc.MetaPathFinder):
    """Fails as a wheel for another build of torch does, when ``name`` is imported."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name, self.error = name, error

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == self.name:
            raise self.error


@pytest.fixture
def fresh() -> Iterator[None]:
    """No torchaudio imported; what was, is put back."""

    def loaded() -> dict[str, ModuleType]:
        return {n: m for n, m in sys.modules.items() if n == "torchaudio" or n.startswith("torchaudio.")}

    def forget() -> dict[str, ModuleType]:
        functional.cache_clear()
        before = loaded()
        for name in before:
            del sys.modules[name]
        return before

    before = forget()
    yield
    forget()
    sys.modules.update(before)


@pytest.mark.parametrize(
    "error",
    [OSError("Could not load this library"), ImportError("undefined symbol"), RuntimeError("different CUDA versions")],
)
def test_works_beside_an_extension_that_cannot_be_loaded(
    fresh: None, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(sys, "meta_path", [Broken(EXTENSION, error), *sys.meta_path])
    found = functional()
    assert found.melscale_fbanks(129, 0.0, 4000.0, 8, 8000).shape == (129, 8)
    assert not sys.modules[EXTENSION]._IS_TORCHAUDIO_EXT_AVAILABLE


def test_leaves_a_sound_torchaudio_alone(fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "functional.py").write_text("mine = True")
    monkeypatch.syspath_prepend(tmp_path)
    assert functional().mine
    assert EXTENSION not in sys.modules


def test_says_that_torchaudio_is_missing(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ModuleNotFoundError("No module named 'torchaudio'", name="torchaudio")
    monkeypatch.setattr(sys, "meta_path", [Broken("torchaudio", missing), *sys.meta_path])
    with pytest.raises(UserError, match="torchaudio is not installed"):
        functional()


def test_says_that_more_than_the_extension_is_broken(fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text("raise OSError('worse')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="even without its compiled part: worse"):
        functional()
    assert not [n for n in sys.modules if n.startswith("torchaudio")]
