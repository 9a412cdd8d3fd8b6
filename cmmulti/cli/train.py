"""``cmmulti train CONFIG``: train a model as a YAML file says."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cmmulti.cli.common import add_overrides

DESCRIPTION = """\
Train a model as a YAML file says. RUN gets checkpoints, log.csv, previews and the resolved config. Stopped or killed, the
same command with --resume goes on from the newest checkpoint; SIGTERM saves one, Ctrl-C does not. docs/configs.md lists the
keys of CONFIG."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser("train", help="train a model from a YAML config", description=DESCRIPTION)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file, such as configs/image/digits-edm.yaml")
    add_overrides(parser)
    parser.add_argument("--data-root", metavar="DIR", help="the folder that holds the data sets, as --set data.root=DIR")
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder of the run (default: runs/<name of CONFIG>)")
    parser.add_argument("--init", metavar="MODEL", help="start from a trained model: a folder or a shipped name")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in RUN")
    parser.add_argument("--dry-run", action="store_true", help="check everything, take one gradient, write nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from cmmulti.cli.common import typed
    from cmmulti.config import load_config, to_yaml
    from cmmulti.training.quiet import first_process
    from cmmulti.training.run import train

    overrides = list(args.set)
    for key, value in (("data.root", args.data_root), ("init", args.init)):
        if value is not None:
            overrides.append(f"{key}={json.dumps(value)}")
    config = load_config(args.config, overrides)
    out = args.out or Path("runs") / args.config.stem
    if args.dry_run:
        from cmmulti.training.dry_run import dry_run

        print(to_yaml(config.model_dump(mode="json")), end="")
        print(dry_run(config, resumed=out if args.resume else None))
        return
    train(config, out, args.resume, typed(args))
    if first_process():
        print(out)
