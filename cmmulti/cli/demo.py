"""``cmmulti demo``: a tour of the shipped models. It runs the commands that a person would type, and says which."""

from __future__ import annotations

import argparse
import contextlib
import csv
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from cmmulti.cli.common import add_out
from cmmulti.cli.demo_stops import EXPORT, MOST_STEPS, STOPS, TRAIN, TRAINED, TRAINING, TRAINING_SECONDS, TRIAL_STEPS
from cmmulti.errors import UserError


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="see what it does: a tour of the shipped models in under five minutes",
        description="Generate digits and spoken digits, fill a hole in a clip, reconstruct an MR head and a CT slice, "
        "train a model for a minute, and show it all on one page. Needs no network and no data of your own.",
    )
    add_out(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from cmmulti import registry
    from cmmulti.cli.common import announce, stoppable, typed
    from cmmulti.report import Part, Results, check_free, read_results, write_page, write_results

    stoppable()
    check_free(args.out, args.overwrite)
    began = time.perf_counter()
    shipped = set(registry.names("models"))
    shown = [stop for stop in STOPS if stop.model is None or stop.model in shipped]
    with _whole(args.out), contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):
        _train(args.out)
        for stop in shown:
            _run(f"{stop.command} --out {{out}}/{stop.folder}", args.out)
        outputs = [
            output.model_copy(update={"file": f"{stop.folder}/{output.file}"})
            for stop in shown
            for output in read_results(args.out / stop.folder).outputs
        ]
        results = Results(
            command=typed(args),
            model=", ".join(dict.fromkeys(stop.model for stop in shown if stop.model is not None)),
            task="demo",
            seconds=round(time.perf_counter() - began, 1),
            outputs=outputs,
            details={"title": "Pictures, sound and scans in one or a few steps"},
            parts=[Part(folder=stop.folder, title=stop.title, text=stop.text) for stop in shown],
        )
        write_results(results, args.out)
        write_page(args.out, results)
    announce(args.out, args.json)
    absent = sorted({stop.model for stop in STOPS if stop.model is not None} - shipped)
    if absent:
        raise UserError(f"demo: shipped models are missing: {', '.join(absent)}; the page shows the rest")


def _run(command: str, out: Path) -> None:
    """Run one command of the tour and say which."""
    from cmmulti.cli.parser import parse

    places = {"{out}": str(out)} | {f"{{{path.name}}}": str(path) for path in _inputs()}
    words = shlex.split(command)
    for mark, place in places.items():
        words = [word.replace(mark, place) for word in words]
    print(f"\n$ {shlex.join(['cmmulti', *words])}", flush=True)
    args = parse(words)
    args.run(args)


def _train(out: Path) -> None:
    """Train a digits model for about a minute, however fast the machine is."""
    _run(f"{TRAIN} --set trainer.max_steps={TRIAL_STEPS}", out)
    with (out / TRAINING / "log.csv").open(encoding="utf-8", newline="") as file:
        trial = list(csv.DictReader(file))[-1]
    per_step = float(trial["items"]) / float(trial["step"]) / float(trial["items_per_second"])
    steps = max(2 * TRIAL_STEPS, min(MOST_STEPS, round(TRAINING_SECONDS / per_step)))
    print(f"{per_step:.2g} s a step: {steps} steps in about {TRAINING_SECONDS} s")
    _run(f"{TRAIN} --set trainer.max_steps={steps} --resume", out)
    _run(EXPORT, out)


def _inputs() -> Iterator[Path]:
    """The small real files that the installed modalities carry, and the config of the training."""
    from cmmulti import registry

    yield Path(__file__).with_name("demo_digits.yaml")
    for name in registry.names("modalities"):
        try:
            package = registry.load("modalities", name).__module__.rpartition(".")[0]
        except UserError:  # somebody's broken plug-in carries none of the demo's inputs
            continue
        folder = Path(str(resources.files(package))) / "inputs"
        if folder.is_dir():
            yield from folder.iterdir()


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[None]:
    """Remove an earlier demo first; when this one fails, remove what it had made so far."""
    from cmmulti.report.folder import remove_former, unwritable

    made = [out / name for name in (TRAINING, TRAINED, *(stop.folder for stop in STOPS))]
    try:
        if (out / "results.json").is_file():
            remove_former(out)
            for folder in (out / TRAINING, out / TRAINED):
                shutil.rmtree(folder, ignore_errors=True)
        former = [folder for folder in made if folder.exists()]
        existed = out.exists()
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error
    try:
        yield
    except BaseException:
        for folder in made:
            if folder not in former:
                shutil.rmtree(folder, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):
                out.rmdir()
        raise
