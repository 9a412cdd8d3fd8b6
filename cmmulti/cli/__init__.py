"""The command line. One module per command; a command's module is imported when that command is typed.

Each module has ``add_parser(subparsers)``, which needs argparse alone, and ``run(args)``, which imports the rest, so that
``cmmulti --help`` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence

from cmmulti.cli.failures import answered
from cmmulti.cli.parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 2 for a mistake in the input, 70 for a bug, 130 for Ctrl-C, 141 where
    nobody reads on. A command that SIGTERM ends leaves by ``SystemExit`` with 143.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):  # where a parent closed one, print would take the other, and a file its number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # not every terminal shows every letter, and a file name need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:  # libraries' warnings are for developers; `python -W default` shows them
        warnings.simplefilter("ignore")
    return answered(lambda: parse(words), words)
