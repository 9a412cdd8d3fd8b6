"""Words of the command line become the options that a task declares."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from cmmulti.cli.parser import build, subparsers_of
from cmmulti.cli.task_options import described, task_options
from cmmulti.config.checking import checked
from cmmulti.errors import UserError
from cmmulti.modality import TaskOptions
from cmmulti.testing.modalities import TAKEN


class Options(TaskOptions):
    start: tuple[float, ...] = Field((), description="where it begins")
    box: tuple[int, int, int, int] | None = None
    boxes: list[tuple[int, int]] = []
    simulate: bool = False
    mask_kind: str = "random"
    mask: Path | None = None
    noise: float | None = Field(None, description="noise")


def options(words: str) -> Options:
    return checked(Options, task_options(Options, words.split(), "test"), "test")


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--start 0.1 --start 0.3", "start", (0.1, 0.3)),
        ("--start 0.1", "start", (0.1,)),
        ("--start=0.1,0.3", "start", (0.1, 0.3)),
        ("--start -0.5 1e-3", "start", (-0.5, 0.001)),
        ("--box 1,2,3,4", "box", (1, 2, 3, 4)),
        ("--box 1 2 3 4", "box", (1, 2, 3, 4)),
        ("--boxes 1,2 --boxes 3,4", "boxes", [(1, 2), (3, 4)]),
        ("--simulate", "simulate", True),
        ("--simulate false", "simulate", False),
        ("--mask-kind equispaced", "mask_kind", "equispaced"),
        ("--mask a,b.png", "mask", Path("a,b.png")),
        ("--noise 0", "noise", 0.0),
    ],
)
def test_values(words: str, name: str, value: object) -> None:
    assert getattr(options(words), name) == value


def test_a_slip_in_a_flag_of_the_command_is_not_blamed_on_the_task() -> None:
    own = ("--samples", "--steps", "--sampler")
    with pytest.raises(UserError, match=r"^unknown option '--sampels'; did you mean '--samples'\?$"):
        task_options(Options, ["--sampels", "2"], "test", own)
    with pytest.raises(UserError, match="unknown option of task test '--strat'; did you mean '--start'"):
        task_options(Options, ["--strat", "2"], "test", own)


def test_the_default_0_is_a_default() -> None:
    class Seeded(TaskOptions):
        seed: int = Field(0, description="seed of the noise")
        simulate: bool = Field(False, description="measure first")

    told = dict(described(Seeded))
    assert told == {"--seed": "seed of the noise (default: 0)", "--simulate": "measure first"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--strat 1", "unknown option of task test '--strat'; did you mean '--start'"),
        ("--noise 1 --noise 2", "--noise: expected once"),
        ("--noise 1 2", "--noise: expected once"),
        ("--noise loud", "noise = 'loud'"),
        ("--box", "--box: expected a value"),
        ("stray", "unexpected 'stray'"),
        ("--noise 1 -x", "unexpected '-x'"),
        ("--simulate perhaps", "simulate = 'perhaps'"),
    ],
)
def test_mistakes(words: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        options(words)
    assert message in str(caught.value)


def test_options_are_described() -> None:
    told = dict(described(Options))
    assert told["--start"] == "where it begins"
    assert told["--mask-kind"] == "(default: random)"
    assert told["--noise"] == "noise"


def test_the_contract_of_tasks_knows_every_flag_that_the_commands_keep() -> None:
    commands = ("edit", "reconstruct", "evaluate")
    kept = {action.dest for name in commands for parser in subparsers_of(build([name])) for action in parser._actions}
    assert kept == TAKEN
