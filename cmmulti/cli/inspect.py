"""``cmmulti inspect``: say what a file or folder is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="say what a file or folder is",
        description="Say what a file or folder is: a model, a run, a checkpoint, a config, results, a comparison, or data "
        "that an installed modality reads. It is read whole and checked. Without PATH: what is installed.",
    )
    parser.add_argument("path", nargs="?", metavar="PATH", help="a file, a folder, or the name of a shipped model")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import json

    if args.path is None:
        from cmmulti import registry

        facts: dict[str, Any] = {"kind": "installed parts", **{group: registry.names(group) for group in registry.GROUPS}}
    else:
        from cmmulti.inspection import inspect

        facts = inspect(Path(args.path))
    if args.json:
        plain = json.loads(json.dumps(facts, default=str), parse_constant=lambda _: None)  # JSON has no NaN
        print(json.dumps(plain, indent=2))
        return
    from cmmulti.inspection import words

    print(words(facts))
