"""What is known of an entry so far, on disk: how a comparison that was interrupted finds out where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cmmulti.comparison.plan import Cell, Entry
from cmmulti.comparison.schema import EvaluationConfig
from cmmulti.errors import UserError
from cmmulti.files import json_text, replacing
from cmmulti.pipeline.folder import CONFIG
from cmmulti.report.results import RESULTS

ENTRIES, RUNS, MODELS, FIGURES = "entries", "runs", "models", "figures"


class State(BaseModel):
    """One entry.

    Args:
        identity: what decided its weights. steps: of its training, once a budget of minutes was turned into steps.
        seconds: compute that the weights cost, by ``clock`` (``cpu``: CPU time of all threads; ``wall``: on a GPU).
        parameters, examples, batch_size: of the run, to be compared with the others'; a batch is one of this cell.
        evaluation: what its figures were made with. failure: why it has none.
    """

    model_config = ConfigDict(extra="ignore")
    identity: dict[str, Any] = {}
    steps: int | None = None
    seconds: float | None = None
    clock: str = "cpu"
    parameters: int | None = None
    examples: int | None = None
    batch_size: int | None = None
    evaluation: dict[str, Any] | None = None
    failure: str | None = None


class Places:
    """Where everything of a comparison lies below ``out``."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def run(self, entry: Entry) -> Path:
        """Of a joint model that of its first cell, which the others share."""
        return self.out / RUNS / entry.home / entry.method

    def model(self, entry: Entry) -> Path:
        return self.out / MODELS / entry.cell / entry.method

    def figures(self, cell: str, method: str) -> Path:
        """Results of ``cmmulti evaluate``; those of a cell share a folder, and so its classifier."""
        return self.out / FIGURES / cell / method

    def trained(self, entry: Entry) -> bool:
        """Whether its model is whole: the config of a model folder is written last."""
        return (self.model(entry) / CONFIG).is_file()

    def measured(self, cell: str, method: str, asked: EvaluationConfig) -> bool:
        """Whether its figures are those that are asked for."""
        same = self.state(cell, method).evaluation == asked.model_dump(mode="json")
        return same and (self.figures(cell, method) / RESULTS).is_file()

    def state_file(self, cell: str, method: str) -> Path:
        return self.out / ENTRIES / cell / f"{method}.json"

    def lock(self, cell: str, method: str) -> Path:
        return self.state_file(cell, method).with_suffix(".lock")

    def state(self, cell: str, method: str) -> State:
        """What is known; nothing where there is no file.

        Raises:
            UserError: the file is damaged.
        """
        path = self.state_file(cell, method)
        if not path.is_file():
            return State()
        try:
            return State.model_validate(json.loads(path.read_bytes()))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: damaged; remove it, and with it {self.out / RUNS / cell / method} and "
                f"{self.out / MODELS / cell / method} to train that model anew"
            ) from error

    def save(self, cell: str, method: str, state: State) -> None:
        """Write it, whole or not at all."""
        path = self.state_file(cell, method)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_text(json_text(state.model_dump(mode="json")), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def changed(places: Places, cell: Cell, entry: Entry) -> list[str]:
    """What of a model that was begun earlier the config now asks otherwise, key by key; empty where it is the same."""
    former = places.state(entry.cell, entry.method).identity
    now = entry.identity(cell)
    if not former or former == now:
        return []
    told = _differences({**former.get("run", {}), "budget": former.get("budget")}, {**now["run"], "budget": now["budget"]})
    others = ("starts", "distils", "parent")
    told += [f"{key} = {former.get(key)} (now {now[key]})" for key in others if former.get(key) != now[key]]
    return told + (["the model that it is made from"] if former.get("made from") != now["made from"] else [])


def begun_otherwise(what: list[str]) -> str:
    """What :func:`changed` found, in words that follow a model's name."""
    return f"was begun with another config: {', '.join(what)}"


def traces(places: Places, entry: Entry) -> list[Path]:
    """What is to be removed for a model to be made anew. A joint one's run is named in its first cell."""
    own = [places.state_file(entry.cell, entry.method), places.model(entry)]
    return [path for path in (*own, *([places.run(entry)] if entry.home == entry.cell else [])) if path.exists()]


def _differences(former: Any, now: Any, key: str = "") -> list[str]:
    """``key = former (now ...)`` of the innermost keys that differ."""
    if not (isinstance(former, dict) and isinstance(now, dict)):
        return [] if former == now else [f"{key} = {_told(former)} (now {_told(now)})"]
    inner = sorted(former.keys() | now.keys())
    return [d for k in inner for d in _differences(former.get(k), now.get(k), f"{key}.{k}" if key else str(k))]


def _told(value: Any) -> str:
    return "unset" if value is None else str(value)
