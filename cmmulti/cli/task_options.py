"""From the words ``--start 0.1 --end 0.2 --simulate`` to the options of a task, as its own model declares them."""

from __future__ import annotations

import argparse
import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from cmmulti.errors import UserError, unknown_name

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


NEAR = 0.75
"""How alike (0 to 1) an unknown word and a flag of the command are where it is taken for a slip in that flag."""


def task_options(kind: type[BaseModel], words: Sequence[str], task: str, flags: Sequence[str] = ()) -> dict[str, Any]:
    """The values of ``kind``'s fields that ``words`` give; pydantic turns them into numbers and checks them.

    ``--mask-kind random`` is the field ``mask_kind``; a flag alone is True. A field that is a sequence takes
    ``--box 1,2,3,4`` or ``--box 1 2 3 4``, and repeated flags add to it; a sequence of sequences takes one per flag.
    ``flags`` are the command's own.

    Raises:
        UserError: the task has no such option (the nearest one is named), a value stands alone, or is given twice.
    """
    given: dict[str, list[list[str]]] = {}
    for flag, values in _flags(words, task):
        name = flag[2:].replace("-", "_")
        if name not in kind.model_fields:
            known = [flag_of(each) for each in kind.model_fields]
            if (near := meant(flag, [*known, *flags])) in flags:
                raise UserError(f"unknown option {flag!r}; did you mean {near!r}?")
            raise unknown_name(f"option of task {task}", flag, known)
        given.setdefault(name, []).append(values)
    return {name: _value(name, kind.model_fields[name], occurrences) for name, occurrences in given.items()}


def meant(word: str, flags: Sequence[str]) -> str | None:
    """The flag that a word is a slip of, None where it resembles none."""
    return next(iter(difflib.get_close_matches(word.partition("=")[0], flags, n=1, cutoff=NEAR)), None)


def flag_of(name: str) -> str:
    """``mask_kind`` as it is typed."""
    return "--" + name.replace("_", "-")


def described(kind: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """(flag, description) of every option of a task."""
    for name, info in kind.model_fields.items():
        words = [info.description or ""]
        if info.is_required():
            words.append("(required)")
        elif not (info.default is None or info.default is False or info.default in ((), [])) and not info.default_factory:
            words.append(f"(default: {_plain(info.default)})")
        yield flag_of(name), " ".join(word for word in words if word)


def add_task_help(parser: argparse.ArgumentParser) -> None:
    """``--help`` of a command that runs tasks; the parser was made without one."""
    parser.add_argument(
        "-h", "--help", action=_TaskHelp, nargs=0, help="explain the command, and the task where it is given"
    )


class _TaskHelp(argparse.Action):
    """``--help`` of a command that runs tasks: its own flags, then those of the task or the tasks of the model."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        parser.print_help()
        model, task, verb = (getattr(namespace, name, None) for name in ("model", "task", "verb"))
        if model is not None:
            print()
            print(explained(_tasks_of(model), task, verb or ""))
        parser.exit()


def explained(tasks: Mapping[str, Any], task: str | None, verb: str) -> str:
    """The tasks that a model has for ``verb`` (empty: for any), or the options of one of them, in words."""
    offered = {name: each for name, each in tasks.items() if verb in ("", each.verb)}
    if task is None:
        lines = [f"  {name:<16} {each.summary}" for name, each in offered.items()] or ["  none"]
        return "\n".join(["tasks of this model:", *lines])
    if task not in offered:
        raise unknown_name(f"task for `{verb}`" if verb else "task", task, offered)
    options = list(described(offered[task].Options))
    width = max((len(flag) for flag, _ in options), default=0)
    lines = [f"  {flag:<{width}}  {text}".rstrip() for flag, text in options] or ["  none"]
    return "\n".join([f"{task}: {offered[task].summary}", f"options of {task}:", *lines])


def _tasks_of(model: str) -> Mapping[str, Any]:
    from cmmulti.pipeline.folder import CONFIG, model_folder, read_config

    tasks: Mapping[str, Any] = read_config(model_folder(model) / CONFIG).build_modality().tasks
    return tasks


def _flags(words: Sequence[str], task: str) -> Iterator[tuple[str, list[str]]]:
    """(flag, its values) in order."""
    flag: str | None = None
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            if flag is not None:
                yield flag, values
            flag, _, value = word.partition("=")
            values = [value] if "=" in word else []
        elif flag is None or (word.startswith("-") and not _is_number(word)):
            raise UserError(f"unexpected {word!r}; expected an option of task {task}, such as --name value")
        else:
            values.append(word)
    if flag is not None:
        yield flag, values


def _is_number(word: str) -> bool:
    try:
        float(word.split(",")[0])
    except ValueError:
        return False
    return True


def _value(name: str, info: FieldInfo, occurrences: list[list[str]]) -> Any:
    depth = _depth(info.annotation)
    if depth == 0:
        given = [value for values in occurrences for value in values]
        if len(given) > 1 or len(occurrences) > 1:
            raise UserError(f"{flag_of(name)}: expected once, with one value; got {' and '.join(given) or 'it twice'}")
        return given[0] if given else True
    for values in occurrences:
        if not values:
            raise UserError(f"{flag_of(name)}: expected a value after it")
    split = [[piece.strip() for value in values for piece in value.split(",")] for values in occurrences]
    return split if depth > 1 else [piece for pieces in split for piece in pieces]


def _depth(annotation: Any) -> int:
    """How many sequences are around a value: 0 for a number, 1 for a tuple of numbers, 2 for a list of tuples."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _depth(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return max(_depth(part) for part in get_args(annotation))
    if origin in (list, tuple, set, frozenset) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return 1 + max((_depth(part) for part in get_args(annotation) if part is not Ellipsis), default=0)
    return 0


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
