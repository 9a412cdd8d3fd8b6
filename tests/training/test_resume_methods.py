"""Every method, killed in the middle and gone on with, ends bit-identical to a run that was never stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import assert_identical, final, forked, free_port

from cmmulti import registry
from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.config import Piece
from cmmulti.training.module import TrainingModule
from cmmulti.training.run import train

Config = Callable[..., RunConfig]

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="processes that have used a GPU cannot be forked")

SETTINGS = {
    "cd": "target_decay: 0.5",
    "ctm": "levels: 6, solver_steps: 3, target_decay: 0.5",
    "ect": "stages: 4",
    "ict": "first: 2, last: 8",
    "meanflow": "apart: 0.75, omega: 0.5, kappa: 0.5",
    "progressive": "first: 8",
    "scd": "warmup: 6",
    "sct": "warmup: 6",
    "tcm": "stages: 4",
}
"""What makes a short run pass through stages, and keeps copies; other methods as they come."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the teachers, one per role."""
    return tmp_path_factory.mktemp("teachers")


def run_of(name: str, toy_config: Config, folder: Path, *more: str) -> RunConfig:
    """A run of 6 steps with a checkpoint every 2, with a teacher of random weights where the method needs one."""
    kind = registry.load("methods", name)
    sets = [f"method={{name: {name}, {SETTINGS.get(name, '')}}}", "trainer.max_steps=6", "checkpoint.every_steps=2"]
    sets += ["preview.every_steps=0", "validation.every_steps=0", "network={channels: [4], groups: 2, attention: []}"]
    sets += ["network.two_times=true"] if kind.role == "two-time" else []
    sets += ["network.guided=true", "modality.name=labelled"] if kind().tells_guidance else []
    sets += ["modality.name=labelled"] if name == "meanflow" else []  # it guides itself
    if kind.needs_teacher:
        modality = "labelled" if kind().tells_guidance else "toy"
        sets.append(f"teacher={teacher_of(kind.teacher_roles[0], modality, toy_config, folder)}")
    return toy_config(*sets, *more)


def teacher_of(role: str, modality: str, toy_config: Config, folder: Path) -> Path:
    if not (folder / role / modality).exists():
        config = toy_config(f"modality.name={modality}")
        settings = PipelineConfig(
            modality=Piece(name=modality, settings=config.modality.settings),
            network=Piece(name="unet", settings=config.network.settings | {"classes": 3 * (modality == "labelled")}),
            parameterization=Piece(name="edm", settings={"sigma_data": 0.5}),
            role=role,
            classes=["low", "middle", "high"] if modality == "labelled" else [],
        )
        model, generator = settings.build_model(), torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
        Pipeline(model, settings.build_modality(), settings).save_pretrained(folder / role / modality)
    return folder / role / modality


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, when a loss of that step is asked for."""
    loss = TrainingModule.loss

    def killed(module: TrainingModule, *args: Any) -> Any:
        if module.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(module, *args)

    monkeypatch.setattr(TrainingModule, "loss", killed)


def killed_and_resumed(config: RunConfig, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_killed() -> None:
        kill_at(3, monkeypatch)  # of the child alone
        train(config, run)

    assert forked(until_killed) == [-signal.SIGKILL]
    assert [path.name for path in run.glob("*.ckpt")] == ["step-00000002.ckpt"]
    train(config, run, resume=True)


@pytest.mark.parametrize("name", sorted(registry.names("methods")))
def test_every_method(name: str, toy_config: Config, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_of(name, toy_config, folder)
    train(config, tmp_path / "whole")
    killed_and_resumed(config, tmp_path / "killed", monkeypatch)
    assert_identical(final(tmp_path / "whole", 6), final(tmp_path / "killed", 6))


def test_stages_that_build_on_each_other_keep_their_number_of_steps(
    toy_config: Config, folder: Path, tmp_path: Path
) -> None:
    """With twice the steps the second half of the run would learn 4 intervals again, of a teacher of 2."""
    train(run_of("progressive", toy_config, folder), tmp_path)
    with pytest.raises(UserError, match=r"trainer\.max_steps = 12, expected 6"):
        train(run_of("progressive", toy_config, folder, "trainer.max_steps=12"), tmp_path, resume=True)


def test_with_two_data_workers(toy_config: Config, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(run_of("progressive", toy_config, folder), tmp_path / "whole")
    config = run_of("progressive", toy_config, folder, "data.workers=2")
    killed_and_resumed(config, tmp_path / "killed", monkeypatch)
    assert_identical(final(tmp_path / "whole", 6), final(tmp_path / "killed", 6))


@pytest.mark.parametrize("name", ["sct", "progressive"])
def test_with_two_processes(
    name: str, toy_config: Config, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DDP: forward-mode derivatives, and a method that changes its teacher; both processes are killed."""
    config = run_of(name, toy_config, folder, "trainer.devices=2", "data.batch_size=8")

    def process(rank: int, run: Path, port: int, killed: bool, resume: bool) -> None:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(port))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        if killed:
            kill_at(3, monkeypatch)
        train(config, run, resume)

    def both(run: Path, killed: bool = False, resume: bool = False) -> list[int | None]:
        port = free_port()
        return forked(*(lambda rank=rank: process(rank, run, port, killed, resume) for rank in range(2)))

    assert both(tmp_path / "whole") == [0, 0]
    assert both(tmp_path / "killed", killed=True) == [-signal.SIGKILL] * 2
    assert [path.name for path in (tmp_path / "killed").glob("*.ckpt")] == ["step-00000002.ckpt"]
    assert both(tmp_path / "killed", resume=True) == [0, 0]
    assert_identical(final(tmp_path / "whole", 6), final(tmp_path / "killed", 6))
