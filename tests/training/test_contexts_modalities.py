"""Contexts of clips and of scans: one row a file, for whatever tensors come out of it, trained, told and sampled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from cmmulti.cli import main
from cmmulti.config import resolve, with_overrides
from cmmulti.pipeline import Pipeline
from cmmulti.training.build import build, order_of
from cmmulti.training.data import Batch, collate

FILES = 12
RUN: dict[str, Any] = {
    "network": {"channels": [8], "groups": 4, "attention": []},
    "method": {"name": "edm"},
    "label_dropout": 0.5,
    "trainer": {"max_steps": 2, "accelerator": "cpu"},
    "preview": {"every_steps": 2, "n": 1, "steps": [2]},
    "validation": {"every_steps": 2, "n": 2},
    "log": {"tensorboard": False},
}


def clips(folder: Path) -> dict[str, Any]:
    """Tones whose context is their pitch."""
    for i in range(FILES):
        tone = 0.3 * np.sin(np.arange(4000) * (200 + 50 * i) * 2 * np.pi / 8000)
        sf.write(folder / f"{i}.wav", tone, 8000)
    return {"name": "audio", "samples": 4000, "classes": 0, "mel": {"mels": 16}, "iterations": 2}


def scans(folder: Path) -> dict[str, Any]:
    for i in range(FILES):
        array = np.random.default_rng(i).integers(40 + 10 * i, 200, (8, 8, 5)).astype(np.int16)
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{i}.nii.gz")
    return {"name": "volume", "kind": "mr", "size": [8, 8], "voxel_mm": [1.0, 1.0]}


def volumes(folder: Path) -> dict[str, Any]:
    return scans(folder) | {"dims": 3, "size": [8, 8, 4], "voxel_mm": [1.0, 1.0, 1.0]}


@pytest.mark.parametrize("make", [clips, scans, volumes])
def test_from_a_table_to_a_sample(make: Callable[[Path], dict[str, Any]], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    modality = make(Path("data"))
    ending = "wav" if make is clips else "nii.gz"
    values = np.linspace(20, 90, FILES)
    Path("people.csv").write_text("file,age\n" + "".join(f"{i}.{ending},{v}\n" for i, v in enumerate(values)))
    data = {"name": "folder", "root": "data", "context": "people.csv", "batch_size": 4}
    config = {**RUN, "modality": modality, "data": data}
    Path("run.yaml").write_text(yaml.safe_dump(config))
    parts = build(resolve(with_overrides(config, [])))
    assert parts.scale is not None
    batch = collate(parts.examples.__getitems__(order_of(parts).batch(0)))
    assert isinstance(batch, Batch)
    assert batch.context is not None
    # Back in the table's unit, each tensor has the number of the file that it came from.
    for example, context in zip(batch.example.tolist(), batch.context, strict=True):
        file = Path(parts.examples.source.files[example]).name
        want = parts.scale.given({"age": float(values[int(file.split(".")[0])])})[0]
        torch.testing.assert_close(context, want, rtol=1e-5, atol=1e-6)
    assert main(["train", "run.yaml", "--out", "run"]) == 0
    assert Path("run/validation.csv").read_text().count("\n") == 3
    assert main(["export", "run", "--out", "model"]) == 0
    # Told, and guided by what it is told: the answers of two contexts and of none differ.
    pipe = Pipeline.from_pretrained("model")
    for parameter in pipe.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    told = [pipe.generate([0], [1.0], context=c).x for c in (None, {"age": 20.0}, {"age": 90.0})]
    assert all(not torch.equal(a, b) for a, b in ((told[0], told[1]), (told[1], told[2])))
    words = ["sample", "model", "--n", "1", "--steps", "2", "--context", "age=60", "--guidance", "2", "--out", "samples"]
    assert main(words) == 0
