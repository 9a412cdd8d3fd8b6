"""What ``edit`` and ``reconstruct`` have in common: a task on one input. argparse alone at import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cmmulti.cli.common import add_model, add_out, add_sampling, whole
from cmmulti.cli.task_options import add_task_help


def add_solving(subparsers: argparse._SubParsersAction[Any], verb: str, summary: str, description: str) -> None:
    """The parser of ``verb``; options that it does not know belong to the task."""
    parser = subparsers.add_parser(
        verb,
        help=summary,
        description=description,
        usage=f"cmmulti {verb} MODEL --task TASK --input FILE [task options] --out DIR [more options]",
        epilog=f"`cmmulti {verb} MODEL --help` lists the model's tasks, "
        f"`cmmulti {verb} MODEL --task TASK --help` the options of one.",
        add_help=False,
    )
    add_model(parser)
    parser.add_argument("--task", required=True, metavar="TASK", help="what to do; the model says what it can")
    parser.add_argument("--input", type=Path, metavar="FILE", help="the file to work on")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="the right answer, for figures only")
    parser.add_argument(
        "--samples", type=whole, default=1, metavar="K", help="how many answers, from seeds S .. S+K-1 (default: 1)"
    )
    add_sampling(parser, steps=4, sampler="default: multistep")
    add_out(parser)
    add_task_help(parser)
    parser.set_defaults(run=run, takes_task_words=True, verb=verb)


def run(args: argparse.Namespace) -> None:
    from cmmulti.cli.common import context_of, device, finish, label_of, stoppable
    from cmmulti.cli.task_options import task_options
    from cmmulti.errors import UserError
    from cmmulti.pipeline import Pipeline
    from cmmulti.report import check_free

    stoppable()
    check_free(args.out, args.overwrite)
    pipe = Pipeline.from_pretrained(args.model, device(args.device))
    task = pipe.modality.task(args.task, args.verb)
    options = task_options(task.Options, args.task_words, args.task, args.flags)
    if args.input is None and task.needs_input:
        raise UserError(f"--input: missing; task {args.task} expects a file to work on")
    for path in (args.input, args.reference):
        if path is not None and not path.exists():
            raise UserError(f"{path}: no such file")
        if path is not None and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path}: a device or pipe; expected a file")
    how: dict[str, Any] = {} if args.sampler is None else {"sampler": args.sampler}
    outcome = pipe.solve(
        args.verb,
        args.input,
        args.task,
        options,
        steps=args.steps,
        seed=args.seed,
        samples=args.samples,
        reference=args.reference,
        levels=args.levels,
        label=label_of(pipe, args.label),
        context=context_of(args.context),
        guidance=args.guidance,
        **how,
    )
    finish(args, outcome)
