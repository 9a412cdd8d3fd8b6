"""What any file or folder that the toolkit reads is, as facts that a person or a script can use."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cmmulti import registry
from cmmulti.errors import UserError
from cmmulti.files import read_json

Facts = dict[str, Any]
"""``kind`` and ``path``, then what there is to say; JSON as it stands."""
LONGEST_HEAD = 65536
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
            return inspect(registry.model_folder(str(path)))
        known = ", ".join(shipped) or "none"
        raise UserError(f"{path}: no such file or folder; expected a path or a shipped model ({known})")
    if not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: a device or pipe; expected a file or folder")
    kinds = _FOLDERS if path.is_dir() else _FILES
    module, name = next(((module, name) for fits, module, name in kinds if fits(path)), ("data", _data(path)))
    describe: Callable[[Path], Facts] = getattr(import_module(f"cmmulti.inspection.{module}"), name)
    return describe(path)


def _data(path: Path) -> str:
    return "folder" if path.is_dir() else "file"


def _holds(name: str) -> Callable[[Path], bool]:
    return lambda folder: (folder / name).is_file()


def _holds_any(pattern: str) -> Callable[[Path], bool]:
    return lambda folder: any(folder.glob(pattern))


def _compares(path: Path) -> bool:
    """Whether a YAML file is of the kind that ``compare`` takes; one that cannot be read is left to the reader of runs."""
    from cmmulti.config import read_yaml

    try:
        return path.suffix.lower() in (".yaml", ".yml") and not read_yaml(path).keys().isdisjoint(("cells", "methods"))
    except UserError:
        return False


def _is_part(folder: Path) -> bool:
    """Whether a comparison keeps its runs, models, figures or entries in a folder, or those of a cell."""
    path, inner = folder.resolve(), ("runs", "models", "figures", "entries")
    return any((out / "comparison.json").is_file() and path.relative_to(out).parts[0] in inner for out in path.parents[:2])


def _tells(*keys: str) -> Callable[[Path], bool]:
    """Whether a JSON file is an object with these keys; one that cannot be read is no such."""

    def fits(path: Path) -> bool:
        try:
            return path.suffix.lower() == ".json" and read_json(path, "an object").keys() >= set(keys)
        except UserError:
            return False

    return fits


def _ends(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.name.lower().endswith(suffixes)


def _tabulates(path: Path) -> bool:
    """Whether a CSV file is a log of a run or a manifest; others may be a modality's items."""
    if path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return bool({"step", "path"} & set(file.readline(LONGEST_HEAD).strip().split(",")))


# Which module and function describes what; a module is imported when it is needed, since training takes seconds.
_FOLDERS: list[tuple[Callable[[Path], bool], str, str]] = [
    # Before results: a comparison's folder has both.
    (_holds("comparison.json"), "comparisons", "folder"),
    (_holds("results.json"), "results", "folder"),
    (_holds("config.json"), "models", "model"),
    (_holds("model.safetensors"), "models", "model"),
    (_holds("classifier.json"), "models", "classifier"),
    (_holds("config.yaml"), "runs", "run"),
    (_holds_any("step-*.ckpt"), "runs", "run"),
    (_holds_any("*/results.json"), "results", "folders"),
    (_holds_any("*/model.safetensors"), "models", "folders"),
    (_is_part, "comparisons", "part"),
]
_FILES: list[tuple[Callable[[Path], bool], str, str]] = [
    (lambda path: path.name == "results.json", "results", "file"),
    (lambda path: path.name == "model.safetensors", "models", "weights_of_model"),
    (_ends(".safetensors"), "models", "weights"),
    (lambda path: path.name == "run.json", "runs", "record"),
    (lambda path: path.name == "comparison.json", "comparisons", "file"),
    (lambda path: path.name == "config.json", "models", "config"),
    (_tells("parameterization"), "models", "config"),
    (_tells("identity", "clock"), "comparisons", "entry"),
    (_tabulates, "runs", "table"),
    (_compares, "comparisons", "config"),
    (_ends(".yaml", ".yml"), "runs", "config"),
    (_ends(".ckpt"), "runs", "checkpoint_file"),
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
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).strip()
