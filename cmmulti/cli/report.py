"""``cmmulti report``: make the page of a result folder again, or one page of many result folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "report",
        help="rebuild the result page",
        description="Make index.html of a result folder from what lies in it, or one page of all result folders in DIR.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a result folder, or a folder of result folders")
    parser.add_argument("--json", action="store_true", help="print the results behind the page instead of where it is")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from cmmulti.report import gather, write_page
    from cmmulti.report.page import PAGE, check_replaceable
    from cmmulti.report.results import as_json

    results = gather(args.folder)
    check_replaceable(args.folder / PAGE)
    page = write_page(args.folder, results)
    print(as_json(results) if args.json else f"page: {page}")
