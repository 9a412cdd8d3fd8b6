"""What the command line says when something goes wrong, and the exit code that goes with it."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from cmmulti.errors import EXIT_BUG, EXIT_OK, EXIT_USER, UserError

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def answered(parse: Callable[[], argparse.Namespace], words: Sequence[str]) -> int:
    """Parse and run a command, and turn whatever it raises into a line on standard error and an exit code."""
    args: argparse.Namespace | None = None
    try:
        args = parse()
        code = args.run(args)
        if sys.stdout is not None:  # a parent may have closed it
            sys.stdout.flush()
        return EXIT_OK if code is None else int(code)
    except UserError as error:
        return _refused(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output left: nothing to say, and nowhere to say it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except Exception as error:
        told = users_fault(error)
        if told is not None:
            return _refused(told)
        log = write_log(error, getattr(args, "out", None), words)
        print(f"unexpected error: {type(error).__name__}; the traceback is in {log}", file=sys.stderr)
        return EXIT_BUG


def users_fault(error: Exception) -> str | None:
    """One line for failures of the machine that is not ours to mend: files, disk, memory. None for a bug."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        name = error.filename2 or error.filename
        if name is not None and Path(os.fsdecode(name)).is_relative_to(Path(__file__).parents[1]):
            return None
        return f"{os.fsdecode(name)}: {error.strerror}" if name is not None else error.strerror
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory; expected a smaller input or fewer samples"
    if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY):
        return "out of memory; expected a smaller input, fewer samples or a device with more memory"
    return None


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
    print("error: " + " ".join(line.split()), file=sys.stderr)
    return EXIT_USER
