"""The commands in docs, cards and comments of configs are words that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cmmulti import registry
from cmmulti.cli.parser import COMMANDS, build, flags_of, parse, subparsers_of
from cmmulti.cli.task_options import flag_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md"),
         *(ROOT / "modalities").glob("*/models/*/README.md"), *(ROOT / "configs").glob("*/*.yaml")]  # fmt: skip
TASKS = ("edit", "reconstruct", "evaluate")


def commands(page: Path) -> Iterator[tuple[bool, str]]:
    """(whether it is a whole line, the command); one in backticks may leave out words that the text says."""
    text = re.sub(r"\$\(.*?\)", "NAME", page.read_text(encoding="utf-8").replace("\\\n", " "))
    for whole, form in (
        (True, r"^(?:#?  +)?((?:cmmulti|python benchmarks/).*)$"),
        (False, r"`((?:cmmulti|python) [^`]+)`"),
    ):
        found = (" ".join(command.split()) for command in re.findall(form, text, re.MULTILINE))
        yield from ((whole and "..." not in command, command) for command in found)


@cache
def flags_of_command(name: str) -> set[str]:
    return {flag for sub in subparsers_of(build([name])) for flag in flags_of(sub)} | (
        options_of_tasks() if name in TASKS else set()
    )


@cache
def options_of_tasks() -> set[str]:
    tasks = (task for name in ("image", "audio", "volume") for task in registry.load("modalities", name).tasks.values())
    return {flag_of(option) for task in tasks for option in task.Options.model_fields}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_a_page_are_taken(page: Path) -> None:
    for whole, text in commands(page):
        words = [word for word in shlex.split(text, comments=True) if word != "..."]
        if words[0] == "python":
            if not words[1].startswith("benchmarks/"):
                continue
            # step_options.py has the flags of step_cost.py, too.
            sources = [(ROOT / name).read_text(encoding="utf-8") for name in (words[1], "benchmarks/step_cost.py")]
            taken = {flag for source in sources for flag in re.findall(r'"(--[a-z-]+)"', source)}
        elif words[1] in COMMANDS:
            taken = flags_of_command(words[1])
        else:
            assert words[1] == "COMMAND", text
            continue
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert [flag for flag in flags if flag not in taken and flag != "--help"] == [], text
        if whole and words[0] == "cmmulti":
            parse(words[1:])
