"""What several commands share: flags, the device, and how a result is announced. argparse alone at import."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmmulti.cli.failures import EXIT_TERMINATED
from cmmulti.errors import UserError

if TYPE_CHECKING:
    from cmmulti.pipeline import Outcome, Pipeline


def whole(text: str) -> int:
    """A whole number above 0."""
    return _number(text, 1, "above 0")


def seed(text: str) -> int:
    """A whole number of at least 0."""
    return _number(text, 0, "of at least 0")


def _number(text: str, lowest: int, words: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = lowest - 1
    if number < lowest:
        raise argparse.ArgumentTypeError(f"expected a whole number {words}, got {text!r}")
    return number


def levels(text: str) -> list[float]:
    """Noise levels such as ``80,0.8``."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected noise levels such as 80,0.8, got {text!r}") from error


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model folder or a shipped name")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="change one key (repeatable)")


def add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="S",
        help="seed of the first sample; further ones take S+1, S+2, ... (default: 0)",
    )


def add_sampling(
    parser: argparse.ArgumentParser, steps: int, sampler: str = "default: the one that suits the model"
) -> None:
    """Flags of every command that samples. ``sampler``: which one it takes where none is asked for, in words."""
    parser.add_argument(
        "--steps",
        type=whole,
        default=steps,
        metavar="N",
        help=f"noise levels visited; a consistency model evaluates its network once at each (default: {steps})",
    )
    parser.add_argument(
        "--levels",
        type=levels,
        metavar="S1,S2",
        help="in place of --steps: the noise levels, decreasing, such as 80,0.8",
    )
    add_seed(parser)
    parser.add_argument("--label", metavar="CLASS", help="a class by name or number, for models that know classes")
    parser.add_argument(
        "--context",
        metavar="NAME=V,...|FILE",
        help="for models that know contexts: numbers by column such as age=60,sex=1, or a file as in training, whose "
        "entries take turns",
    )
    add_guidance(parser)
    add_sampler(parser, sampler)
    add_device(parser)


def add_guidance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help="weight of classifier-free guidance, for teachers and for students that take it as an input",
    )


def add_sampler(parser: argparse.ArgumentParser, default: str) -> None:
    """``--sampler``; ``default`` says what serves without it."""
    names = (
        "multistep; for models of two times (ctm, meanflow) jumps:gamma=0; for teachers euler, heun, dpm-solver++ or "
        "stochastic-heun:churn=40,lowest=0.05,highest=50,noise=1.003"
    )
    parser.add_argument("--sampler", metavar="NAME", help=f"{names} ({default})")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto: cuda where there is one, else cpu (default)"
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """Flags of every command that writes a result folder."""
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results; made if missing")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="write into a folder that is not empty: the results of an earlier run there are replaced, other files stay",
    )
    parser.add_argument("--json", action="store_true", help="print results.json instead of a summary")


def device(name: str) -> Any:
    """The torch device of that name.

    Raises:
        UserError: no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    refused = UserError(f"--device {name}: not available here; expected cpu, cuda, cuda:N, mps or auto")
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise refused
    try:
        wanted = torch.device(name)
        torch.zeros(1, device=wanted)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise refused from error
    return wanted


def label_of(pipe: Pipeline, text: str | None) -> int | None:
    """The number of a class given by number or name, the name first."""
    if text is None:
        return None
    names = pipe.config.classes
    if text in names:
        number = names.index(text)
        if text.isdecimal() and number != int(text) < len(names):
            print(f"label: the class named {text}, which has number {number}", file=sys.stderr)
        return number
    try:
        return int(text)
    except ValueError as error:
        expected = f"one of {', '.join(names)}" if names else "none: this model knows no classes"
        raise UserError(f"--label: expected {expected}, got {text!r}") from error


def context_of(text: str | None) -> dict[str, float] | Path | None:
    """``--context`` as a pipeline takes it: ``age=60,sex=1`` by name, anything else a file."""
    if text is None:
        return None
    if "=" not in text or Path(text).is_file():
        return Path(text)
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        try:
            if name in values:
                raise ValueError
            values[name] = float(value)
        except ValueError as error:
            raise UserError(f"--context: expected numbers such as age=60,sex=1, each once, got {part!r}") from error
    return values


def stoppable() -> None:
    """Let a polite kill end the command as Ctrl-C does, so that nothing half-written stays behind."""

    def stop(*_: object) -> None:
        sys.exit(EXIT_TERMINATED)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)


def typed(args: argparse.Namespace) -> str:
    """The command as it was typed."""
    return shlex.join(["cmmulti", *args.command_line])


def finish(args: argparse.Namespace, outcome: Outcome) -> None:
    """Write an outcome and say what it is."""
    from cmmulti.pipeline.processes import is_main

    if not is_main():
        return
    outcome.save(args.out, typed(args), args.overwrite)
    announce(args.out, args.json)


def announce(folder: Path, as_json: bool) -> None:
    """Say what a result folder holds."""
    from cmmulti.report import read_results
    from cmmulti.report.figures import figure
    from cmmulti.report.page import PAGE
    from cmmulti.report.results import RESULTS

    if as_json:
        print((folder / RESULTS).read_text(encoding="utf-8"), end="")
        return
    results = read_results(folder)
    count = len(results.outputs)
    cost = [] if results.nfe is None else [f"{results.nfe} network evaluation{'' if results.nfe == 1 else 's'} each"]
    cost += [] if results.seconds is None else [f"{results.seconds:.2f} s"]
    what = f"{count} result{'' if count == 1 else 's'}" if count else "figures"  # a task's evaluation keeps no items
    print(f"{what} in {folder}" + (f" ({', '.join(cost)})" if cost else ""))
    for key, value in results.metrics.items():
        shown = figure(key)
        beside = [
            f"{name.replace('_', ' ')} {shown.text(values[key])}"
            for name, values in results.baselines.items()
            if key in values
        ]
        print(f"  {shown.heading}: {shown.text(value)}" + (f"  (beside {', '.join(beside)})" if beside else ""))
    for note in results.notes:
        print(f"  note: {note}")
    print(f"page: {folder / PAGE}")
