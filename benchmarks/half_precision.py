"""Does every method stay finite in half precision? 3,000 steps of the digits model under bfloat16 autocast for each.

    python benchmarks/half_precision.py --out bf16 [--methods ect sct ...] [--batch 128] [--steps 3000]

The run of ``edm`` comes first and is the teacher and starting point of those that need one; that of ``ect`` is TCM's. A
method that was interrupted goes on from its newest checkpoint, and one that is done is not run again. ``bf16/result.json``
is written after each: steps, steps without a finite gradient (the goal is 0), whether all weights and averages are finite,
and the first and last mean loss.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from cmmulti import registry
from cmmulti.config import RunConfig, read_yaml, resolve
from cmmulti.files import replacing
from cmmulti.training import checkpoint
from cmmulti.training.callbacks.log_file import NONFINITE, read
from cmmulti.training.export import export
from cmmulti.training.run import train

BASE = Path(__file__).parents[1] / "configs" / "image" / "digits-edm.yaml"
FIRST = ("edm", "ect")


def config_of(name: str, out: Path, steps: int, batch: int, precision: str) -> RunConfig:
    """The digits config with another method, from the teacher that it needs."""
    method = registry.load("methods", name)()
    values: dict[str, Any] = dict(read_yaml(BASE))
    settings = {"form": "edm"} if name == "scd" else {}  # the teacher's own form, to start from its weights
    values |= {"method": {"name": name, **settings}, "preview": {"every_steps": 0}, "validation": {"every_steps": 0}}
    values |= {"log": {"tensorboard": False}, "optimizer": {"warmup_steps": 100}}
    values["data"] = {**values["data"], "batch_size": batch}
    values["network"] = {
        **values["network"],
        "two_times": method.role == "two-time",
        "guided": method.tells_guidance,
    }
    values["trainer"] = {"max_steps": steps, "precision": precision, "nonfinite": steps}
    if method.needs_teacher:
        values["init"] = str(out / ("ect" if "consistency" in method.teacher_roles else "edm") / "model")
    return resolve(values)


def run(name: str, out: Path, steps: int, batch: int, precision: str) -> dict[str, Any]:
    """Train, or go on, to the end; export what others start from."""
    folder = out / name / "run"
    train(config_of(name, out, steps, batch, precision), folder, resume=any(folder.glob(checkpoint.PATTERN)))
    if name in FIRST and not (out / name / "model").exists():
        export(folder, out / name / "model")
    state, rows = checkpoint.load(max(folder.glob(checkpoint.PATTERN))), read(folder / "log.csv")
    averages = [tensor for average in state["ema"].values() for tensor in average]
    return {
        "steps": state["step"],
        "nonfinite": state["nonfinite"],
        "nonfinite_by_level": {c: sum(r.get(c, 0) for r in rows if r.get(c, 0) > 0) for c in NONFINITE},
        "weights_finite": all(bool(torch.isfinite(t).all()) for t in (*state["model"].values(), *averages)),
        "loss": [rows[0]["loss"], rows[-1]["loss"]],
        "seconds": round(rows[-1]["seconds"]),
        "precision": precision,
        "batch": batch,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=registry.names("methods"), choices=registry.names("methods"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", default="bf16-mixed", choices=("bf16-mixed", "32-true"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    path = arguments.out / "result.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for name in sorted(arguments.methods, key=lambda n: (n not in FIRST, FIRST.index(n) if n in FIRST else 0)):
        if name in done:
            continue
        done[name] = run(name, arguments.out, arguments.steps, arguments.batch, arguments.precision)
        with replacing(path) as part:
            part.write_text(json.dumps(done, indent=2) + "\n")
    print(json.dumps(done, indent=2))


if __name__ == "__main__":
    main()
