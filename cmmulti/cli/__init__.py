"""The command line. One module per command; a command's module is imported when that command is typed.

Each module has ``add_parser(subparsers)``, which needs argparse alone, and ``run(args)``, which imports the rest, so that
``cmmulti --help`` answers at once.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence

from cmmulti.cli.failures import answered
from cmmulti.cli.parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 2 for a mistake in the input, 70 for a bug."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # not every terminal shows every letter, and a file name need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:  # libraries' warnings are for developers; `python -W default` shows them
        warnings.simplefilter("ignore")
    return answered(lambda: parse(words), words)
