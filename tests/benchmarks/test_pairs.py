"""Benchmarks that report quartiles refuse a single pair before they measure for minutes."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    "words",
    [
        ["step_cost.py", "--methods", "ect", "--batch", "1", "--size", "8", "--channels", "8"],
        ["step_options.py", "--options", "fused", "--batch", "1", "--size", "8", "--channels", "8"],
        ["sampler_overhead.py", "--batch", "1"],
        ["ema.py", "no-such-config.yaml"],
    ],
    ids=lambda words: words[0],
)
def test_quartiles_need_two_pairs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [*words, "--pairs", "1"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(BENCHMARKS / words[0]), run_name="__main__")
    assert "argument --pairs: expected at least 2, got 1" in capsys.readouterr().err
