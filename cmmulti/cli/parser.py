"""The words of the command line, taken apart. argparse alone is imported here."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from cmmulti.errors import UserError, unknown_name

COMMANDS = (
    "demo",
    "train",
    "compare",
    "sample",
    "edit",
    "reconstruct",
    "evaluate",
    "export",
    "convert",
    "classifier",
    "inspect",
    "report",
    "data",
)
"""In the order of ``cmmulti --help``; each is a module of this package."""

DESCRIPTION = """\
Consistency models of pictures, sound and 3D scans: train, sample, edit and reconstruct in one or a few network
evaluations."""

EPILOG = """\
MODEL is a model folder or a shipped name; `cmmulti inspect` lists those. `cmmulti COMMAND --help` explains one command.
Exit codes: 0 done, 2 a mistake in the input (one line on standard error), 70 a bug (its traceback is in a log file)."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are user errors: one line, the nearest good word named, no usage block."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Abbreviated flags would make a new flag a change of meaning, and would swallow a task's own options.
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see `{self.prog} --help`)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise unknown_name(action.metavar if isinstance(action.metavar, str) else action.dest, value, action.choices)


class _Version(argparse.Action):
    """``--version``; package metadata is read when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"cmmulti {version('cmmulti')}")
        parser.exit()


def build(commands: Iterable[str]) -> Parser:
    """The parser of these commands; the others are not imported."""
    parser = Parser(
        prog="cmmulti", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for name in commands:
        import_module(f"cmmulti.cli.{name}").add_parser(subparsers)
    return parser


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The namespace of a command line: ``run`` is what to call with it.

    Commands that run tasks (``edit``, ``reconstruct``, ``evaluate``) keep the words that they do not know in
    ``task_words``: they belong to the task. ``flags`` are those that they do know, for a slip in one of these.

    Raises:
        UserError: a word is unknown, missing or of the wrong type.
    """
    command = next((word for word in words if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        raise unknown_name("command", command, COMMANDS)
    parser = build([command] if command is not None else COMMANDS)
    args, rest = parser.parse_known_args(words)
    # Records are text; a file name need not be.
    args.command_line = [word.encode("utf-8", "backslashreplace").decode() for word in words]
    if getattr(args, "takes_task_words", False):
        args.task_words = rest
        args.flags = [flag for sub in subparsers_of(parser) for flag in flags_of(sub)]
    elif rest:
        raise _unexpected(args.command, rest[0], parser)
    return args


def _unexpected(command: str, word: str, parser: Parser) -> UserError:
    """The error for a word that the command does not take."""
    if not word.startswith("-"):
        return UserError(f"{command}: unexpected {word!r} (see `cmmulti {command} --help`)")
    flags = [flag for sub in subparsers_of(parser) for flag in flags_of(sub)]
    near = difflib.get_close_matches(word.split("=")[0], flags, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"see `cmmulti {command} --help`"
    return UserError(f"{command}: unknown option {word.split('=')[0]!r}; {hint}")


def subparsers_of(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """All parsers below ``parser``."""
    found: list[argparse.ArgumentParser] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found += [sub, *subparsers_of(sub)]
    return found


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """The long flags of one parser."""
    return [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
