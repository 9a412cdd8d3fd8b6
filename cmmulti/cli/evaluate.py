"""``cmmulti evaluate``: the figures of a model on held-out data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cmmulti.cli.common import add_device, add_guidance, add_model, add_out, add_sampler, add_seed, whole
from cmmulti.cli.task_options import add_task_help

DESCRIPTION = """\
Measure a model on held-out data.

Without --task: samples in each number of steps, compared with the data set. Where it has labels: the share of samples that
an independent classifier assigns to the class that was asked for, and the Fréchet distance on its features; where it has
none: the distance on principal components. Precision, recall and signs of memorised items come with them. The same figures
of the held-out items themselves are the floor.

With --task: an edit or a reconstruction of held-out items beside simpler answers, in the modality's figures and, where the
data have labels, a distance on the classifier's features. The task's own options follow, as for `cmmulti edit` and
`cmmulti reconstruct`; tasks that can simulate their measurement do so here.

Classifiers are kept in the folder `classifiers` beside --out and used again. Under `accelerate launch`, several processes
share the sampling and give the same samples."""

EPILOG = """\
examples:
  cmmulti evaluate digits --data ROOT --n 500 --steps 1 2 4 --out DIR
  cmmulti evaluate digits --data ROOT --task inpaint --box 2,2,6,6 --n 50 --out DIR
  cmmulti evaluate head-mr --data ROOT --task mri --acceleration 4 --tune result:start-level=0.05,0.1,0.3 --n 12 --out DIR

`cmmulti evaluate MODEL --help` lists the model's tasks, `cmmulti evaluate MODEL --task TASK --help` the options of one."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on held-out data",
        description=DESCRIPTION,
        epilog=EPILOG,
        usage="cmmulti evaluate MODEL --data DIR --out DIR [--task TASK [task options]] [more options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    add_model(parser)
    parser.add_argument(
        "--data",
        required=True,
        type=Path,
        metavar="DIR",
        help="the folder that holds the data sets; with --dataset folder, the folder of your files",
    )
    parser.add_argument("--dataset", metavar="NAME", help="the data set (default: the one that the model's card names)")
    parser.add_argument(
        "--data-option", action="append", default=[], metavar="KEY=VALUE", help="an option of the data set; repeatable"
    )
    parser.add_argument("--split", choices=("test", "val"), default="test", help="the held-out part (default: test)")
    parser.add_argument(
        "--n", type=whole, default=1000, help="samples for each number of steps; with --task, most items (default: 1000)"
    )
    parser.add_argument(
        "--steps",
        type=whole,
        nargs="+",
        default=[1, 2, 4],
        metavar="N",
        help="noise levels visited, a row for each number; a consistency model evaluates its network once at each level "
        "(default: 1 2 4)",
    )
    parser.add_argument("--teacher", metavar="MODEL", help="a denoising teacher to compare the model with")
    add_sampler(parser, "of the models that it suits; default: their own, with --task multistep")
    add_guidance(parser)
    add_seed(parser)
    parser.add_argument("--task", metavar="TASK", help="evaluate this task instead of free samples")
    parser.add_argument(
        "--tune",
        action="append",
        default=[],
        metavar="NAME:KEY=V1,V2",
        help="choose option KEY of the task by the PSNR of baseline NAME (or of `result`) on validation items; repeatable",
    )
    parser.add_argument("--tune-n", type=whole, default=4, metavar="N", help="validation items for --tune (default: 4)")
    parser.add_argument(
        "--classifier-steps", type=whole, default=1500, metavar="N", help="training steps of the classifier (default: 1500)"
    )
    parser.add_argument(
        "--search-levels",
        action="store_true",
        help="search the noise levels of several steps first, by Fréchet distance to training items; with --card the model "
        "keeps them",
    )
    parser.add_argument("--card", action="store_true", help="write the figures into the model's card, too")
    add_device(parser)
    add_out(parser)
    add_task_help(parser)
    parser.set_defaults(run=run, takes_task_words=True)


def run(args: argparse.Namespace) -> None:
    from cmmulti.cli.common import announce, device, stoppable, typed
    from cmmulti.cli.task_options import meant, task_options
    from cmmulti.errors import UserError
    from cmmulti.evaluation.evaluate import evaluate
    from cmmulti.evaluation.generation import Sampling
    from cmmulti.evaluation.request import Request
    from cmmulti.evaluation.task import task_called
    from cmmulti.pipeline import Pipeline

    stoppable()
    if args.task is None and args.task_words:
        near = meant(args.task_words[0], args.flags)
        hint = "without --task there are no task options" if near is None else f"did you mean {near}?"
        raise UserError(f"evaluate: unexpected {args.task_words[0]!r}; {hint}")
    where = device(args.device)
    pipe = Pipeline.from_pretrained(args.model, where)
    options = {}
    if args.task is not None:
        options = task_options(task_called(pipe, args.task).Options, args.task_words, args.task, args.flags)
    request = Request(
        pipeline=pipe,
        model=args.model,
        data=args.data,
        out=args.out,
        teacher=None if args.teacher is None else Pipeline.from_pretrained(args.teacher, where),
        dataset=args.dataset,
        data_option=args.data_option,
        split=args.split,
        n=args.n,
        steps=args.steps,
        seed=args.seed,
        how=Sampling(args.sampler, args.guidance),
        task=args.task,
        options=options,
        tune=args.tune,
        tune_n=args.tune_n,
        classifier_steps=args.classifier_steps,
        overwrite=args.overwrite,
        card=args.card,
        search_levels=args.search_levels,
        command=typed(args),
    )
    folder = evaluate(request, lambda line: None if args.json else print(line, flush=True))
    if folder is not None:
        announce(folder, args.json)
