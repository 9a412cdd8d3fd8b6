"""What is known of an entry so far, on disk: how a comparison that was interrupted finds out where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cmmulti.comparison.plan import Cell, Entry
from cmmulti.errors import UserError
from cmmulti.files import replacing
from cmmulti.pipeline.folder import CONFIG
from cmmulti.report.results import RESULTS

ENTRIES, RUNS, MODELS, FIGURES = "entries", "runs", "models", "figures"


class State(BaseModel):
    """One entry.

    Args:
        identity: what decided its weights. steps: of its training, once a budget of minutes was turned into steps.
        seconds: compute that the weights cost, by ``clock`` (``cpu``: CPU time of all threads; ``wall``: on a GPU).
        parameters, examples, batch_size: of the run, to be compared with the others'. evaluation: what its figures were
            made with. failure: why it has none.
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

    def measured(self, entry: Entry, state: State) -> bool:
        """Whether its figures are those that are asked for."""
        same = state.evaluation == entry.evaluation.model_dump(mode="json")
        return same and (self.figures(entry.cell, entry.method) / RESULTS).is_file()

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
            return State.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: damaged; remove it to train this entry's model anew") from error

    def save(self, cell: str, method: str, state: State) -> None:
        """Write it, whole or not at all."""
        path = self.state_file(cell, method)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_text(state.model_dump_json(indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def same_as_before(places: Places, cell: Cell, entry: Entry) -> str | None:
    """Why a model that was begun earlier is another one than the config now asks for; None where it is the same."""
    former = places.state(entry.cell, entry.method).identity
    now = entry.identity(cell)
    if not former or former == now:
        return None
    runs = former.get("run", {}), now["run"]
    keys = [f"{k}" for k in sorted(runs[0].keys() | runs[1].keys()) if runs[0].get(k) != runs[1].get(k)]
    keys += [k for k in sorted(former.keys() | now.keys()) if k != "run" and former.get(k) != now.get(k)]
    return (
        f"{entry.name}: was begun with another {', '.join(keys)}; expected the same config, another --out, or "
        f"{places.state_file(entry.cell, entry.method)} and {places.run(entry)} removed"
    )
