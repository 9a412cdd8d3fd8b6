"""``cmmulti reconstruct``: find the scan behind measurements."""

from __future__ import annotations

import argparse
from typing import Any

from cmmulti.cli.solving import add_solving


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    add_solving(
        subparsers,
        "reconstruct",
        "find the image behind measurements",
        "Find the image behind measurements, given in a file or simulated from an image with --simulate.",
    )
