"""How many pairs of timings a benchmark takes, as its command line reads it."""

from __future__ import annotations

import argparse


def pairs(text: str) -> int:
    """A number of pairs; quartiles of their ratios need two."""
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"expected at least 2, got {number}")
    return number
