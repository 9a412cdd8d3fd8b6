"""Configs as text: YAML, ``--set``, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmmulti.config import read_yaml, to_yaml, with_overrides
from cmmulti.errors import UserError

NESTED = b"a0: &a0 [ha, ha]\n" + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b"*a%d, " % (i - 1) * 10) for i in range(1, 9))
"""Eight lists of ten aliases each, of the list before."""


def test_set_reads_yaml_values_and_makes_sections() -> None:
    values = {"a": {"b": 1, "c": 2}}
    result = with_overrides(values, ["a.b=1e-4", "x.y=[1, 2]", "x.z=null", "a.c=true", "n=-3", "s=0.5e3"])
    assert result == {"a": {"b": 1e-4, "c": True}, "x": {"y": [1, 2], "z": None}, "n": -3, "s": 500.0}
    assert values == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize("override", ["a", "=1", "a.=1", "a.b.c=1", "a.b=[1"])
def test_a_malformed_set_names_itself(override: str) -> None:
    with pytest.raises(UserError, match="--set"):
        with_overrides({"a": {"b": 1}}, [override])


def test_yaml_round_trip(tmp_path: Path) -> None:
    values = {"a": {"b": 1e-8, "c": [1, 2.5], "d": None}, "e": "8", "f": True}
    path = tmp_path / "x.yaml"
    path.write_text(to_yaml(values))
    assert read_yaml(path) == values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a mapping of sections"),
        (b"- 1\n", "expected a mapping of sections .*, got list"),
        (b"a: [1\n", "not valid YAML .*line"),
        (b"a: 1\na: 2\n", "key 'a' is given twice"),
        (b"\xff\xfe\x00a", "cannot be read as a config"),
        (b"a: !!python/object/apply:os.mkdir [x]\n", "not valid YAML"),
        (b"{[1]: 2}\n", "not valid YAML"),
        (b"[" * 700, "not valid YAML"),
        (b"a: !!bool x\n", "not valid YAML"),
        (b"a: !!int ''\n", "not valid YAML"),
        (b"a: !!timestamp x\n", "not valid YAML"),
        (b'a: "\\UFFFFFFFF"\n', "not valid YAML"),
        (b"a: 0x" + b"F" * 5000, "not valid YAML .an integer of 5002 characters, line 1"),
        (b"a: 1" + b":1" * 3000, "not valid YAML .an integer of 6001 characters, line 1"),
        (b"x: " + b"1" * 2_000_000, "expected a config of at most"),
        (b"x: 1\no: &o {a: *o}\n", "not valid YAML .an alias inside of what it names, line 2"),
        (b"l: &l [*l]\n", "an alias inside of what it names"),
        (NESTED, "more than 1000000 characters, aliases written out, line "),
    ],
)
def test_bad_files_are_user_errors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {b: 1}\nc: {<<: *a, d: *a}\n")
    assert read_yaml(path) == {"a": {"b": 1}, "c": {"b": 1, "d": {"b": 1}}}


def test_missing_file_and_folder_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; expected a config"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="a folder; expected a config"):
        read_yaml(tmp_path)
