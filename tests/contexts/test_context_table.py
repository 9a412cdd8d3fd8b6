"""Files of contexts: what is read, how entries find their items, and what is refused in one line."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cmmulti.contexts import read_contexts
from cmmulti.errors import UserError

TABLE = "file, age ,sex\na.png,60,1\nsub/b.png,41.5,0\n"


def written(tmp_path: Path, text: str | bytes, name: str = "c.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("text", [TABLE, "﻿" + TABLE, TABLE.replace("\n", "\r\n")])
def test_a_csv_row_is_one_token(tmp_path: Path, text: str) -> None:
    table = read_contexts(written(tmp_path, text))
    assert table.names == ("age", "sex")
    assert {k: v.tolist() for k, v in table.entries.items()} == {"a.png": [[60.0, 1.0]], "sub/b.png": [[41.5, 0.0]]}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_by_file_name(tmp_path: Path, suffix: str) -> None:
    arrays = {"a.png": np.ones((3, 4), np.float32), "b.png": np.zeros((3, 4), np.float32)}
    path = tmp_path / f"c{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        save_file({k: torch.from_numpy(v).to(torch.bfloat16) for k, v in arrays.items()}, path)
    table = read_contexts(path)
    assert table.names == ()
    assert all(np.array_equal(table.entries[k], v) for k, v in arrays.items())


def test_an_item_is_found_by_its_path_or_else_by_its_name(tmp_path: Path) -> None:
    table = read_contexts(written(tmp_path, TABLE))
    assert [c.tolist() for c in table.of(["sub/b.png", "deep/er/a.png"])] == [[[41.5, 0.0]], [[60.0, 1.0]]]
    assert len(table.of(["x/a.png", "x/a.png"])) == 2  # slices of one scan
    with pytest.raises(UserError, match=r"c\.csv: no context for 'x/b\.png'; expected an entry"):
        table.of(["a.png", "x/b.png"])
    with pytest.raises(UserError, match=r"'a\.png' names 'x/a\.png' and 'y/a\.png'; expected their paths"):
        table.of(["x/a.png", "y/a.png"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("age,sex\n1,2\n", "expected a column 'file'"),
        ("file\na\n", "expected a column 'file'"),
        ("file,age,age\na,1,2\n", "each once; got file, age, age"),
        ("file,a=b\na,1\n", "expected a column"),
        ("", "got nothing"),
        ("file,age\n", "holds no contexts"),
        ("file,age\na,old\n", "line 2: age = 'old': expected a finite number"),
        ("file,age\na,\n", "line 2: age = '': expected a finite number"),
        ("file,age\na,1\nb,nan\n", "line 3: age = 'nan': expected a finite number"),
        ("file,age\na,1e999\n", "expected a finite number"),
        ("file,age\na,1\nb,1e200\n", "line 3: age = '1e200': expected a finite number of single precision"),
        ("file,age\na\n", "age = None"),
        ("file,age\na,1,2\n", "line 2: expected a file"),
        ("file,age\na,1\na,2\n", "line 3: expected a file that no other line names"),
        ("file,age\n,1\n", "line 2: expected a file"),
        ('file,age\n"a,1\n', "cannot be read as a CSV table"),
        (b"file,age\n\xff\xfe,1\n", "cannot be read as a CSV table"),
    ],
)
def test_a_bad_table_is_refused_by_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(UserError) as caught:
        read_contexts(written(tmp_path, text))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


ONE = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npz(a=np.ones(3, np.float32)), "'a' is float32 of shape \\(3,\\)"),
        (npz(a=np.ones((2, 3), np.int64)), "'a' is int64"),
        (npz(a=np.ones((0, 3))), "'a' is float64 of shape"),
        (npz(a=ONE, b=ONE * np.inf), "'b' holds NaN or infinity"),
        (npz(a=ONE, b=np.ones((3, 2), np.float32)), "'b' is \\(3, 2\\); expected \\(2, 3\\), as 'a'"),
        (npz(a=ONE)[:150], "not a whole archive"),
        (npz(), "holds no contexts"),
        (b"", "not a whole archive"),
        (pickle.dumps([1]), "not a whole archive"),
    ],
)
def test_a_bad_archive_is_refused_by_entry(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_contexts(written(tmp_path, content, "c.npz"))


def test_nothing_in_an_archive_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("owned",))

    path = tmp_path / "c.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array(member, np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="'a' is object of shape"):
        read_contexts(path)


def promising(path: Path, shape: tuple[int, ...], held: int) -> Path:
    """An archive of one float32 array whose header tells ``shape``, with ``held`` bytes of zeros behind it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for _ in range(held >> 20):
            member.write(bytes(1 << 20))
    return path


def test_an_archive_is_not_unpacked_beyond_what_contexts_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = promising(tmp_path / "c.npz", (1, 1 << 25), 1 << 27)
    assert bomb.stat().st_size < 1 << 18
    told = (
        r"c\.npz: 'a' of shape \(1, 33554432\) has 33554432 numbers; expected at most 16777216 in the context of one item"
    )
    with pytest.raises(UserError, match=told):
        read_contexts(bomb)
    few = written(tmp_path, npz(a=ONE, b=ONE), "few.npz")
    monkeypatch.setattr("cmmulti.contexts.archive.physical_memory", lambda: 94)
    with pytest.raises(
        UserError, match=r"few\.npz: contexts of 2 items need 48 bytes; expected at most half of the memory, 47"
    ):
        read_contexts(few)
    monkeypatch.setattr("cmmulti.contexts.archive.physical_memory", lambda: 96)
    assert len(read_contexts(few).entries) == 2


@pytest.mark.parametrize(
    ("shape", "told"), [((1, 1 << 20), "'a' promises .* more than the file holds"), ((-1, -4), "'a' has shape")]
)
def test_a_header_that_does_not_fit_what_is_behind_it_is_refused(tmp_path: Path, shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_contexts(promising(tmp_path / "c.npz", shape, 1 << 20))


def test_what_is_no_array_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(UserError, match=r"not a whole archive of arrays .*notes\.txt"):
        read_contexts(path)


@pytest.mark.parametrize(("name", "told"), [("none.csv", "no such file"), ("c.txt", "ending in .csv, .npz, .safetensors")])
def test_other_files_are_refused(tmp_path: Path, name: str, told: str) -> None:
    written(tmp_path, TABLE, "c.txt")
    with pytest.raises(UserError, match=told):
        read_contexts(tmp_path / name)


def test_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged contexts"):
        read_contexts(written(tmp_path, b"\x10\0\0\0\0\0\0\0{}", "c.safetensors"))
    header = json.dumps({"a": {"dtype": "F4", "shape": [2, 4], "data_offsets": [0, 4]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    with pytest.raises(UserError, match="damaged contexts"):  # numbers of four bits, of which nothing can be made here
        read_contexts(written(tmp_path, content, "c.safetensors"))
