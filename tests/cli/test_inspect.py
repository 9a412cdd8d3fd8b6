"""inspect knows every file that the toolkit reads, and refuses the others by name."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cmmulti.inspection import words

Run = Callable[..., tuple[int, str, str]]


def facts(answer: tuple[int, str, str]) -> dict[str, object]:
    code, out, err = answer
    assert (code, err) == (0, "")
    found: dict[str, object] = json.loads(out)
    return found


def refused(answer: tuple[int, str, str], *told: str) -> None:
    code, out, err = answer
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert all(word in err for word in told), err


def test_a_model(cmmulti: Run, model: Path) -> None:
    found = facts(cmmulti("inspect", model, "--json"))
    assert (found["kind"], found["modality"], found["shape"]) == ("model", "image", [1, 8, 8])
    assert found["parameters"]
    assert found["levels"]
    assert "inpaint" in str(found["tasks"])
    assert "tiny model" in str(found["card"])
    words = cmmulti("inspect", model)
    assert words[0] == 0
    assert words[1].startswith("kind")


@pytest.mark.parametrize(("name", "kind"), [("config.json", "model config"), ("model.safetensors", "model")])
def test_a_models_files(cmmulti: Run, model: Path, name: str, kind: str) -> None:
    assert facts(cmmulti("inspect", model / name, "--json"))["kind"] == kind


def test_a_damaged_model(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "m")
    state = load_file(folder / "model.safetensors")
    first = min(state)
    save_file({**state, first: torch.full_like(state[first], torch.nan)}, folder / "model.safetensors")
    refused(cmmulti("inspect", folder), "model.safetensors", "NaN")
    shutil.copy(folder / "model.safetensors", tmp_path / "alone.safetensors")
    refused(cmmulti("inspect", tmp_path / "alone.safetensors"), "alone.safetensors", "NaN")
    content = (model / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    refused(cmmulti("inspect", folder), "model.safetensors", "damaged")
    (folder / "model.safetensors").unlink()
    refused(cmmulti("inspect", folder), "model.safetensors", "no such file")
    (folder / "config.json").write_text("{")
    refused(cmmulti("inspect", folder / "config.json"), "config.json", "not valid JSON")


def test_results(cmmulti: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cmmulti("sample", model, "--n", 1, "--out", out)
    assert facts(cmmulti("inspect", out, "--json"))["outputs"] == ["sample-0.png"]
    assert facts(cmmulti("inspect", out / "results.json", "--json"))["kind"] == "results"
    assert facts(cmmulti("inspect", tmp_path, "--json"))["parts"] == ["out"]
    (out / "sample-0.png").unlink()
    refused(cmmulti("inspect", out), "sample-0.png", "no such file")


def test_data(cmmulti: Run, picture: Path) -> None:
    found = facts(cmmulti("inspect", picture, "--json"))
    assert (found["kind"], found["width"], found["height"]) == ("image", 8, 8)
    assert facts(cmmulti("inspect", picture.parent, "--json"))["files"] == {"image": 1}
    packed = shutil.make_archive(str(picture.parent.parent / "packed"), "zip", picture.parent)
    assert facts(cmmulti("inspect", packed, "--json"))["files"] == {"image": 1}
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) // 2])
    refused(cmmulti("inspect", picture), "picture.png")


@pytest.mark.parametrize("content", [b"", b"what is this", bytes(4000), b"PK\x03\x04 no archive"])
@pytest.mark.parametrize(
    "name", ["x.bin", "x.json", "x.yaml", "x.ckpt", "x.safetensors", "x.zip", "x.png", "x.npz", "x.h5", "x"]
)
def test_anything_else_is_refused(cmmulti: Run, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(cmmulti("inspect", tmp_path / name), name)


def test_a_json_file_of_another_kind_is_refused_in_a_short_line(cmmulti: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({f"key_{i}_of_something_else": i for i in range(100)}))
    answer = cmmulti("inspect", path)
    refused(answer, "unknown keys 'key_0_of_something_else', ", " and 95 more (known: ")
    assert len(answer[2]) < 1000
    answer = cmmulti("inspect", path.rename(tmp_path / "other.json"))
    refused(answer, "other.json: not a file or folder that cmmulti reads")
    assert len(answer[2]) < 500


def test_an_empty_folder_is_refused(cmmulti: Run, tmp_path: Path) -> None:
    refused(cmmulti("inspect", tmp_path), str(tmp_path))


def test_a_figure_that_is_none_is_a_dash() -> None:
    assert words({"kind": "results", "metrics": {"psnr": None}}).splitlines()[-1] == "metrics  psnr: –"


def test_what_is_installed(cmmulti: Run) -> None:
    found = facts(cmmulti("inspect", "--json"))
    assert {"image", "audio", "volume"} <= set(found["modalities"])  # type: ignore[call-overload]


def test_arrays(cmmulti: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((3, 8, 8), np.uint8))
    assert facts(cmmulti("inspect", tmp_path / "set.npz", "--json"))["arrays"] == {"images": "uint8 (3, 8, 8)"}
    kspace = np.ones((2, 16, 12), np.complex64)
    mask = np.zeros(12, bool)
    mask[3:9] = True
    np.savez(tmp_path / "k.npz", kspace=kspace * mask, mask=mask)
    found = facts(cmmulti("inspect", tmp_path / "k.npz", "--json"))
    assert (found["kind"], found["kspace"]["shape"]) == ("volume", [2, 1, 16, 12])  # type: ignore[index]
    np.savez(tmp_path / "k.npz", kspace=kspace, mask=mask[:-1])
    refused(cmmulti("inspect", tmp_path / "k.npz"), "k.npz", "mask", "12")
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("x.npy", npy_header((1 << 40,)))
    refused(cmmulti("inspect", tmp_path / "lie.npz"), "lie.npz", "more than the file holds")


def npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_a_log_a_manifest_and_a_record(cmmulti: Run, tmp_path: Path) -> None:
    log, manifest, record = tmp_path / "log.csv", tmp_path / "clips.csv", tmp_path / "run.json"
    log.write_text("step,loss\n50,0.5\n100,0.25\n")
    manifest.write_text("path,label\na.wav,yes\n")
    record.write_text('{"command": "cmmulti train x.yaml", "examples": 3}')
    found = facts(cmmulti("inspect", log, "--json"))
    assert (found["kind"], found["rows"], found["last_row"]) == ("table", 2, {"step": "100", "loss": "0.25"})
    assert facts(cmmulti("inspect", manifest, "--json"))["columns"] == ["path", "label"]
    assert facts(cmmulti("inspect", record, "--json"))["command"] == "cmmulti train x.yaml"
    manifest.write_text("path,label\na.wav\n")
    refused(cmmulti("inspect", manifest), "clips.csv", "line 2", "2 values")
    manifest.write_text("")
    refused(cmmulti("inspect", manifest), "clips.csv", "empty")
    record.write_text("{")
    refused(cmmulti("inspect", record), "run.json")
