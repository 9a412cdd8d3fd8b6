"""A config as text: YAML in, ``--set a.b=v`` on top, YAML out."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cmmulti.errors import UserError
from cmmulti.files import read_bytes

LARGEST = 1_000_000
"""Bytes of the largest config that is read, and its characters with every alias (``*a``) written out."""
LONGEST_INTEGER = 100
"""Characters of an integer: Python takes long to read a very long one, and refuses to write it into a message."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-4`` as a number and refuses a key that is given twice.

    A few lines of aliases of aliases stand for more than fits into memory, and an alias inside of what it names for no end
    of it. Both are refused before anything is made of them.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        aliased = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if aliased and node not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias inside of what it names", mark)
        if not aliased:
            self._sizes[node] = size = 1 + sum(map(self._size, node.value))
            if size > LARGEST:
                raise yaml.composer.ComposerError(None, None, f"more than {LARGEST} characters, aliases written out", mark)
        return node

    def _size(self, part: str | yaml.Node | tuple[yaml.Node, yaml.Node]) -> int:
        """Of a part of a node: a character of a scalar, an element of a list, or a key and its value."""
        if isinstance(part, str):
            return 1
        return sum(map(self._sizes.__getitem__, part)) if isinstance(part, tuple) else self._sizes[part]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > LONGEST_INTEGER:
            told = f"an integer of {len(node.value)} characters"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
        value: int = self.construct_yaml_int(node)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, or in what a shell hands over (``/dev/stdin``, ``<(...)``).

    Raises:
        UserError: the file is missing, no regular one, too large, no YAML, or no mapping; the line is named.
    """
    content = read_bytes(path, "a config", LARGEST, handed=True)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read as a config ({error})") from error
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a mapping of sections (modality, data, method, ...), got {_kind(value)}")
    return {str(k): v for k, v in value.items()}


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """``values`` with ``a.b=v`` applied in order; ``v`` is read as YAML, so that ``8``, ``true``, ``[1, 2]`` and ``null``
    are what they look like. Sections are made where they are missing; whether a key exists is checked afterwards.

    Raises:
        UserError: an override is not ``a.b=v``, its value is not YAML, or a part of its key is not a section.
    """
    result = _copied(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise UserError(f"--set {override}: expected a.b=value")
        section = result
        for i, part in enumerate(parts[:-1]):
            inner = section.get(part)
            if inner is None:
                inner = section[part] = {}
            if not isinstance(inner, dict):
                raise UserError(f"--set {override}: {'.'.join(parts[: i + 1])} is {inner!r}, not a section")
            section = inner
        section[parts[-1]] = parse_yaml(text, f"--set {override}")
    return result


def to_yaml(values: Mapping[str, Any]) -> str:
    """YAML in the order of ``values``."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; numbers such as ``1e-4`` are numbers.

    Raises:
        UserError: it is not YAML, or stands for too much; the message begins with ``where``.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        # PyYAML's own errors are for the syntax; what a tag or an escape promises and does not hold raises the others.
        raise UserError(f"{where}: not valid YAML ({_problem(error)})") from error


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f", line {mark.line + 1}" if mark is not None else ""
    return f"{getattr(error, 'problem', None) or error}{place}"


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
