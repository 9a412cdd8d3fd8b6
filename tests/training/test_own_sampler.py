"""A model that was made for some steps of one sampler is previewed and sampled so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cmmulti.config import RunConfig
from cmmulti.pipeline import Pipeline
from cmmulti.training.export import export
from cmmulti.training.run import train


@pytest.mark.parametrize("last", [1, 4])
def test_progressive_students_take_their_own_euler_steps(
    toy_config: Callable[..., RunConfig], tmp_path: Path, last: int
) -> None:
    """At other levels, such as those of 18 steps of a denoiser, they have not been trained in their last stage."""
    quiet = ("preview.every_steps=0", "validation.every_steps=0")
    train(toy_config("trainer.max_steps=1", *quiet), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "teacher")
    method = f"method={{name: progressive, first: 4, last: {last}}}"
    config = toy_config(method, f"init={tmp_path / 'teacher'}", "preview.steps=null", "trainer.max_steps=6")
    train(config, tmp_path / "student")
    previews = sorted(path.name for path in (tmp_path / "student" / "previews").iterdir())
    assert previews == [f"step-00000006-{last}steps.png"]
    card = export(tmp_path / "student", tmp_path / "model").card
    assert f"--steps {last} " in card
    outcome = Pipeline.from_pretrained(tmp_path / "model").sample(1, last)
    assert (outcome.nfe, outcome.sampler) == (last, "euler")
    assert Pipeline.from_pretrained(tmp_path / "teacher").sample(1, 2).sampler == "heun"
