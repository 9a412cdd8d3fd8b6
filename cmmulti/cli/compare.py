"""``cmmulti compare CONFIG``: train and measure several methods on several data sets, and show them side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cmmulti.cli.common import add_overrides
from cmmulti.errors import EXIT_BUG, EXIT_OK, EXIT_USER

DESCRIPTION = """\
Train every method of CONFIG on every cell with the same budget, measure the models, and write one page with figures,
costs and samples at the same seeds. Stopped or killed, the same command goes on where it was; started more than once, on
one machine or on several that share the folder, each takes models that no other has taken. One model that fails does not
stop the others; the exit code is then 2, or 70 where it was a bug. docs/configs.md lists the keys of CONFIG."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "compare", help="train and measure several methods on several data sets", description=DESCRIPTION
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file, such as configs/comparison/digits.yaml")
    add_overrides(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the results (default: comparisons/<name of CONFIG>)"
    )
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="the folder that holds the data sets")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, take one gradient of each model (minutes), write nothing",
    )
    parser.add_argument(
        "--json", action="store_true", help="print comparison.json instead of where the page is, or what would be trained"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from cmmulti.cli.common import stoppable, typed
    from cmmulti.comparison.compare import compare, prepare
    from cmmulti.comparison.reader import load_plan
    from cmmulti.comparison.summary import COMPARISON

    def tell(line: str) -> None:
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)

    stoppable()
    plan = load_plan(args.config, args.set, args.data_root)
    out = args.out or Path("comparisons") / args.config.stem
    trials = prepare(plan, out, tell)
    if args.dry_run:
        if args.json:
            from cmmulti.comparison.planned import planned_text
            from cmmulti.comparison.state import Places

            print(planned_text(plan, Places(out), trials))
        tell(f"{len(plan.entries)} trainings of {plan.config.budget.told}, teachers' own budgets excepted")
        return EXIT_OK
    failures = compare(plan, out, typed(args), tell)
    print((out / COMPARISON).read_text(encoding="utf-8") if args.json else f"page: {out / 'index.html'}")
    if not failures:
        return EXIT_OK
    told = "; ".join(f"{name} ({failure.reason})" for name, failure in failures.items())
    print(f"error: {len(failures)} of the models failed: {told}", file=sys.stderr)
    return EXIT_BUG if any(failure.bug for failure in failures.values()) else EXIT_USER
