"""From a model that diffusers trained to a student of ours, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

Run = Callable[..., Any]


def pictures(n: int) -> torch.Tensor:
    """(n, 1, 8, 8) in -1..1: an edge, dark on the left and light on the right, somewhere in the middle."""
    generator = torch.Generator().manual_seed(0)
    edge = torch.randint(3, 6, (n, 1, 1, 1), generator=generator)
    return torch.where(torch.arange(8) < edge, -0.6, 0.6).expand(n, 1, 8, 8).contiguous()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDPM of edges, trained with diffusers' scheduler and saved by its pipeline."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )
    scheduler = diffusers.DDPMScheduler()
    optimizer = torch.optim.Adam(unet.parameters(), 2e-3)
    data = pictures(64)
    for _ in range(150):
        x0 = data[torch.randint(64, (16,))]
        noise, t = torch.randn_like(x0), torch.randint(1000, (16,))
        loss = (unet(scheduler.add_noise(x0, noise, t), t).sample - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("theirs") / "edges"
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_teacher_is_converted_sampled_distilled_and_sampled_again(cmmulti: Run, theirs: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    assert cmmulti("convert", theirs, "--out", teacher).code == 0
    told = cmmulti("sample", teacher, "--n", 4, "--steps", 10, "--sampler", "dpm-solver++", "--out", tmp_path / "samples")
    assert told.code == 0, told.err
    results = json.loads((tmp_path / "samples" / "results.json").read_text())
    assert (results["nfe"], results["sampler"]) == (10, "dpm-solver++")
    made = [np.asarray(Image.open(tmp_path / "samples" / o["file"]), float) for o in results["outputs"]]
    assert np.mean([m[:, 5:].mean() - m[:, :3].mean() for m in made]) > 100  # of 153 in the data: it has learned them
    data = tmp_path / "pictures"
    data.mkdir()
    for i, x in enumerate(pictures(8)):
        Image.fromarray(((x[0] + 1) * 127.5).byte().numpy()).save(data / f"{i}.png")
    config = {
        "modality": {"name": "image", "size": 8, "channels": 1},
        "data": {"name": "folder", "root": str(data), "batch_size": 4},
        "network": {"name": "init"},
        "method": {"name": "cd"},
        "init": str(teacher),
        "optimizer": {"learning_rate": 1e-4},
        "trainer": {"max_steps": 3, "accelerator": "cpu"},
        "preview": {"every_steps": 0},
        "log": {"tensorboard": False},
    }
    file, run, student = tmp_path / "cd.yaml", tmp_path / "run", tmp_path / "student"
    file.write_text(yaml.safe_dump(config))
    for words in (
        ("train", file, "--out", run),
        ("train", file, "--out", run, "--resume", "--set", "trainer.max_steps=4"),
        ("export", run, "--out", student, "--ema", "raw"),
        ("sample", student, "--n", 2, "--steps", 1, "--out", tmp_path / "few"),
    ):
        told = cmmulti(*words)
        assert told.code == 0, told.err
    assert json.loads((tmp_path / "few" / "results.json").read_text())["nfe"] == 1
    wrote = json.loads((student / "config.json").read_text())
    assert wrote["network"]["name"] == "translated"
    assert wrote["parameterization"]["name"] == "consistency"
    # Two steps later the student is still nearly its teacher.
    from cmmulti.pipeline import Pipeline

    x = pictures(4) + 0.5 * torch.randn(4, 1, 8, 8)
    one, other = (Pipeline.from_pretrained(f).model.endpoint(x, 0.5) for f in (teacher, student))
    assert float((one.detach() - other.detach()).abs().mean()) < 0.1


def test_mistakes_are_one_line(cmmulti: Run, theirs: Path, tmp_path: Path) -> None:
    for words, expected in (
        (("convert", tmp_path / "nowhere", "--out", tmp_path / "out"), "expected the folder of a diffusers model"),
        (("convert", theirs, "--out", tmp_path / "out", "--modality", "imag"), "image"),
        (("convert", theirs, "--out", tmp_path / "out", "--null-class"), "expected a network of classes"),
        (("convert", theirs, "--out", tmp_path / "out", "--set", "colours=3"), "colours"),
    ):
        told = cmmulti(*words)
        assert told.code == 2
        assert expected in told.err
        assert told.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
