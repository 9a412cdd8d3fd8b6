"""``cmmulti export RUN --out DIR``: make a model folder from a run's newest checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Make a model folder from the newest checkpoint of a run: weights, config and card, for `cmmulti sample` and all other
commands. The run stays as it is."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser("export", help="make a model folder from a run", description=DESCRIPTION)
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of the run")
    where = "model folder to write; of a joint model, a folder of one for each modality"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=where)
    average = parser.add_mutually_exclusive_group()
    average.add_argument("--ema", metavar="PROFILE", help="half-life-0.05, sigma-rel-0.1, raw (default: the config's)")
    average.add_argument("--ema-sigma-rel", type=float, metavar="W", help="any other relative width, made of snapshots")
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from cmmulti.training.export import export, read_run
    from cmmulti.training.sources import shares

    config = read_run(args.folder)[0]
    places = {share.name: args.out / share.name for share in shares(config)} if config.joint else {None: args.out}
    for name, place in places.items():
        export(args.folder, place, args.ema, args.half, args.ema_sigma_rel, name)
        print(place)
