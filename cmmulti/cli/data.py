"""``cmmulti data prepare``: make a named data set from its public source."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser("data", help="make a named data set from its public source")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    prepare = verbs.add_parser(
        "prepare",
        help="turn published files into the form that models train on",
        description="Turn the files of a published data set into the form that models train on. docs/data.md says where "
        "each is published, under which licence, and what is kept.",
    )
    prepare.add_argument("name", metavar="NAME", help="digits, fsdd, cifar10-jpeg, ixi-t1-2mm, ct-hu-256, hippocampus, ...")
    prepare.add_argument(
        "--from", dest="source", type=Path, default=Path(), metavar="FOLDER", help="the published files (default: here)"
    )
    prepare.add_argument(
        "--to", dest="target", type=Path, metavar="ROOT", help="the folder of data sets (default: CMMULTI_DATA)"
    )
    prepare.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from cmmulti import registry
    from cmmulti.errors import UserError

    prepare = registry.load("preparers", args.name)
    target = args.target or os.environ.get("CMMULTI_DATA")
    if not target:
        raise UserError("--to: expected the folder of data sets; give it, or set the variable CMMULTI_DATA")
    prepared = prepare(args.source, Path(target))
    for note in prepared.notes:
        print(note)
    for file in prepared.files:
        print(f"wrote {file}")
    return 0
