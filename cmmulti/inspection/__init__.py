"""What any file or folder that the toolkit reads is, as facts that a person or a script can use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmmulti import registry
from cmmulti.errors import UserError
from cmmulti.inspection import data, models, results, runs

Facts = dict[str, Any]
"""``kind`` and ``path``, then what there is to say; JSON as it stands."""
WIDE = 90
"""Characters of a mapping that still fit on its line."""


def inspect(path: Path) -> Facts:
    """Say what ``path`` is.

    Raises:
        UserError: it is missing, damaged, or nothing that an installed part reads.
    """
    if not path.exists():
        shipped = registry.names("models")
        if str(path) in shipped:
            return models.model(registry.model_folder(str(path)))
        raise UserError(
            f"{path}: no such file or folder; expected a path or a shipped model ({', '.join(shipped) or 'none'})"
        )
    for fits, describe in _FOLDERS if path.is_dir() else _FILES:
        if fits(path):
            return describe(path)
    return data.folder(path) if path.is_dir() else data.file(path)


def _holds(*names: str) -> Callable[[Path], bool]:
    return lambda folder: all((folder / name).is_file() for name in names)


def _ends(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.name.lower().endswith(suffixes)


def _called(name: str) -> Callable[[Path], bool]:
    return lambda path: path.name == name


_FOLDERS: list[tuple[Callable[[Path], bool], Callable[[Path], Facts]]] = [
    (_holds("results.json"), results.folder),
    (_holds("config.json"), models.model),
    (_holds("model.safetensors"), models.model),
    (lambda path: (path / "config.yaml").is_file() or any(path.glob("step-*.ckpt")), runs.run),
    (lambda path: any(path.glob("*/results.json")), results.folders),
]
_FILES: list[tuple[Callable[[Path], bool], Callable[[Path], Facts]]] = [
    (_called("results.json"), lambda path: results.folder(path.parent)),
    (_called("model.safetensors"), models.weights_of_model),
    (_ends(".safetensors"), models.weights),
    (_ends(".json"), models.config),
    (_ends(".yaml", ".yml"), runs.config),
    (_ends(".ckpt"), runs.checkpoint_file),
]


def words(facts: Facts) -> str:
    """The facts for a person to read: one a line, long ones on lines of their own, a model's card at the end."""
    shown = {key.replace("_", " "): value for key, value in facts.items() if value not in (None, "", [], {})}
    card = shown.pop("card", None)
    width = max(map(len, shown))
    lines = []
    for key, value in shown.items():
        text = _plain(value)
        if isinstance(value, dict) and len(text) > WIDE:
            lines += [key, *(f"  {inner}: {_plain(told)}" for inner, told in value.items())]
        else:
            lines.append(f"{key:<{width}}  {text}")
    return "\n".join(lines if card is None else [*lines, "", str(card).strip()])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).strip()
