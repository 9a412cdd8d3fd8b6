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
        "Change a part of a file (a hole to fill, colours, resolution) and leave the rest as it is, bit for bit.",
    )
