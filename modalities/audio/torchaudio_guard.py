"""The one place that imports torchaudio, and makes it work beside any build of torch.

A torchaudio wheel carries a compiled extension for one kind of torch: the CUDA wheel's links libraries that a CPU torch
lacks, and its import then fails with OSError. What is used here (resampling, mel filter banks, Griffin-Lim) is plain
Python. So where the extension cannot be loaded, an empty stand-in takes its place and torchaudio is imported again.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from cmmulti.errors import UserError

EXTENSION = "torchaudio._extension"


def _pass_through(function: Callable[..., Any]) -> Callable[..., Any]:
    """Stand-in for the decorators that refuse functions when the extension is absent; such functions fail if called."""
    return function


def _stand_in() -> ModuleType:
    module = ModuleType(EXTENSION)
    vars(module).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_RIR_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=_pass_through,
        fail_if_no_rir=_pass_through,
    )
    return module


def _forget() -> None:
    """Remove what a failed import left behind."""
    for name in [n for n in sys.modules if n == "torchaudio" or n.startswith("torchaudio.")]:
        del sys.modules[name]


@cache
def functional() -> ModuleType:
    """``torchaudio.functional``, with or without torchaudio's compiled part.

    Raises:
        UserError: torchaudio is missing, or broken in more than its extension.
    """
    try:
        return importlib.import_module("torchaudio.functional")
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":
            raise UserError("torchaudio is not installed: pip install torchaudio") from error
    except (ImportError, OSError, RuntimeError):
        pass  # RuntimeError: the extension was built for another CUDA version than torch
    _forget()
    sys.modules[EXTENSION] = _stand_in()
    try:
        return importlib.import_module("torchaudio.functional")
    except (ImportError, OSError) as error:
        _forget()
        raise UserError(f"torchaudio cannot be imported, even without its compiled part: {error}") from error
