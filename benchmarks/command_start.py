"""What a short command costs: `cmmulti sample MODEL --n 4 --steps 1`, a process of its own, against `import torch` alone.

    python benchmarks/command_start.py [MODEL ...] [--runs 5]

Models are shipped names or folders (default: digits, spoken-digits, head-mr). All are timed in turn; medians are printed,
in seconds of the wall clock, so run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

MODELS = ["digits", "spoken-digits", "head-mr"]


def seconds(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def sampled(model: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return seconds("-m", "cmmulti", "sample", model, "--n", "4", "--steps", "1", "--out", f"{folder}/out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {}
    for _ in range(arguments.runs):
        times.setdefault("import torch", []).append(seconds("-c", "import torch"))
        for model in arguments.models:
            times.setdefault(model, []).append(sampled(model))
    print(json.dumps({what: round(statistics.median(each), 2) for what, each in times.items()}, indent=2))


if __name__ == "__main__":
    main()
