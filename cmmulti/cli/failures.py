"""What the command line says when something goes wrong, and the exit code that goes with it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from cmmulti.errors import EXIT_BUG, EXIT_OK, EXIT_USER, UserError, users_fault

EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141
EXIT_TERMINATED = 143


def answered(parse: Callable[[], argparse.Namespace], words: Sequence[str]) -> int:
    """Parse and run a command, and turn whatever it raises into a line on standard error and an exit code."""
    try:
        return _answered(parse, words)
    finally:  # also after --help, which ends in an exit of its own
        _let_go(sys.stdout)
        _let_go(sys.stderr)


def _answered(parse: Callable[[], argparse.Namespace], words: Sequence[str]) -> int:
    args: argparse.Namespace | None = None
    try:
        args = parse()
        code = args.run(args)
        with contextlib.suppress(BrokenPipeError):  # the work is done, and its reader has seen enough of it
            sys.stdout.flush()
        return EXIT_OK if code is None else int(code)
    except UserError as error:
        return _refused(str(error))
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output left before the end: nowhere to say it, but the work is not done
        return EXIT_UNREAD
    except Exception as error:
        told = users_fault(error)
        if told is not None:
            return _refused(told)
        log = write_log(error, getattr(args, "out", None), words)
        _say(f"unexpected error: {type(error).__name__}; the traceback is in {log}")
        return EXIT_BUG


def write_log(error: BaseException, out: Path | None, words: Sequence[str]) -> Path:
    """The traceback as a file: in the output folder where that holds nothing else, else among temporary files."""
    lines = ["cmmulti " + " ".join(words), "", *traceback.format_exception(error)]
    text = "\n".join(line.rstrip("\n") for line in lines) + "\n"
    if out is not None:
        from cmmulti.report.folder import LOG, refuse_used

        try:
            refuse_used(Path(out))
            Path(out).mkdir(parents=True, exist_ok=True)
            (Path(out) / LOG).write_text(text, encoding="utf-8", errors="backslashreplace")
        except (OSError, UserError):
            pass  # an unwritable or used folder: the log goes where it can
        else:
            return Path(out) / LOG
    handle, name = tempfile.mkstemp(prefix="cmmulti-error-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return Path(name)


def _refused(line: str) -> int:
    _say("error: " + " ".join(line.split()))
    return EXIT_USER


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # with nobody to read it the exit code still tells
        print(line, file=sys.stderr)


def _let_go(stream: TextIO) -> None:
    """Drop what can no longer be written, which Python would complain of once more as it ends, with a code of its own."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
