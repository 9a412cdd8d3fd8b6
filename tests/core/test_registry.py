"""Pieces by name: found from metadata, loaded only when asked for, broken ones reported by name."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from cmmulti import registry
from cmmulti.errors import UserError


def test_everything_that_is_registered_loads():
    for group in registry.GROUPS:
        for name in registry.names(group):
            if group == "models":
                assert registry.model_folder(name).is_dir()
            else:
                assert registry.load(group, name) is not None


def test_listing_names_imports_nothing_heavy():
    code = "import sys; from cmmulti import registry; registry.names('modalities'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="unknown solver 'replacment'; did you mean 'replacement'"):
        registry.load("solvers", "replacment")
    with pytest.raises(UserError, match="unknown modality 'imag'; did you mean 'image'"):
        registry.load("modalities", "imag")
    with pytest.raises(UserError, match="unknown registry group"):
        registry.names("gadgets")


def test_a_broken_plug_in_is_reported_and_the_rest_work(monkeypatch):
    real = registry._entries("operators")
    broken = EntryPoint("broken", "no_such_package.module:Thing", "cmmulti.operators")
    monkeypatch.setattr(registry, "_entries", lambda group: {**real, "broken": broken})
    with pytest.raises(UserError, match=r"'broken' \(no_such_package.module:Thing\) cannot be loaded"):
        registry.load("operators", "broken")
    assert registry.load("operators", "mask").__name__ == "Mask"


def test_a_plug_in_that_raises_anything_at_import_is_reported(monkeypatch, tmp_path):
    (tmp_path / "hasty.py").write_text("raise RuntimeError('no\\nlicence')")
    monkeypatch.syspath_prepend(tmp_path)
    broken = EntryPoint("hasty", "hasty:Thing", "cmmulti.operators")
    monkeypatch.setattr(registry, "_entries", lambda group: {"hasty": broken})
    with pytest.raises(UserError, match=r"^operators: 'hasty' \(hasty:Thing\) cannot be loaded: RuntimeError: no licence$"):
        registry.load("operators", "hasty")


def test_a_broken_model_is_reported(monkeypatch):
    entries = {
        "gone": EntryPoint("gone", "no_such_package.model", "cmmulti.models"),
        "module": EntryPoint("module", "cmmulti.errors", "cmmulti.models"),
    }
    monkeypatch.setattr(registry, "_entries", lambda group: entries)
    with pytest.raises(UserError, match=r"^models: 'gone' \(no_such_package.model\) cannot be loaded: ModuleNotFoundError"):
        registry.model_folder("gone")
    with pytest.raises(
        UserError, match=r"^models: 'module' \(cmmulti.errors\): expected a package that is a model folder$"
    ):
        registry.model_folder("module")


def test_a_model_folder_needs_no_python(monkeypatch, tmp_path):
    (tmp_path / "plain_models" / "one").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    one = EntryPoint("one", "plain_models.one", "cmmulti.models")
    monkeypatch.setattr(registry, "_entries", lambda group: {"one": one})
    assert registry.model_folder("one") == tmp_path / "plain_models" / "one"


def test_a_name_of_two_packages_is_refused_and_not_drawn(monkeypatch):
    """Which of them is found last depends on the order of folders on a disk."""
    two = [EntryPoint("mine", f"package_{i}:Thing", "cmmulti.operators") for i in (1, 2)]
    real = registry.entry_points
    monkeypatch.setattr(registry, "entry_points", lambda group: [*real(group=group), *two])
    for cached in (registry._entries, registry._places):
        monkeypatch.setattr(registry, cached.__name__, cached.__wrapped__)
    with pytest.raises(UserError, match=r"'mine' is registered as package_1:Thing and as package_2:Thing; expected one"):
        registry.load("operators", "mine")
    assert registry.names("operators").count("mine") == 1
    assert registry.load("operators", "mask").__name__ == "Mask"
