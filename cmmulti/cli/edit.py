"""``cmmulti edit``: change a part of a picture, clip or volume and leave the rest as it is."""

from __future__ import annotations

import argparse
from typing import Any

from cmmulti.cli.solving import add_solving


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    add_solving(
        subparsers,
        "edit",
        "change a part of a picture, clip or volume",
        "Change a file: fill a hole, give it colours, make it finer, take noise out of it; the model says what it can. "
        "What lies outside a hole comes back bit for bit.",
    )
