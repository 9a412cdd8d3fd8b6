"""``cmmulti sample``: generate pictures, clips or volumes."""

from __future__ import annotations

import argparse
from typing import Any

from cmmulti.cli.common import add_model, add_out, add_sampling, whole


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "sample",
        help="generate pictures, clips or volumes",
        description="Generate from seeds S, S+1, ...: each sample depends on its seed alone, not on how many are made.",
    )
    add_model(parser)
    parser.add_argument("--n", type=whole, default=16, metavar="N", help="how many (default: 16)")
    add_sampling(parser, steps=2)
    add_out(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from cmmulti.cli.common import context_of, device, finish, label_of, stoppable
    from cmmulti.pipeline import Pipeline
    from cmmulti.report import check_free

    stoppable()
    check_free(args.out, args.overwrite)
    pipe = Pipeline.from_pretrained(args.model, device(args.device))
    finish(
        args,
        pipe.sample(
            args.n,
            args.steps,
            args.seed,
            label_of(pipe, args.label),
            levels=args.levels,
            sampler=args.sampler,
            guidance=args.guidance,
            context=context_of(args.context),
        ),
    )
