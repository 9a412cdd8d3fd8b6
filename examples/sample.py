"""Generate items from Python, and see that a sample depends on its seed alone.

python examples/sample.py digits --out digits-out
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cmmulti.pipeline import Pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder or a shipped name")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    pipe = Pipeline.from_pretrained(args.model)

    # One step and two steps from the same seeds: the same items, sharper.
    for steps in (1, 2):
        outcome = pipe.sample(n=args.n, steps=steps, seed=0)
        print(f"{steps} step(s): levels {outcome.levels}, {outcome.nfe} evaluations each, {outcome.seconds:.2f} s")
        outcome.save(args.out / f"{steps}-steps")

    # The noise of a sample comes from its seed, not from the batch it is made in.
    together = pipe.generate(range(args.n), pipe.levels(2)).x
    alone = pipe.generate([args.n - 1], pipe.levels(2), pipe.labels_for([args.n - 1], None)).x
    print(f"the last sample alone and in the batch differ by at most {float((together[-1:] - alone).abs().max()):.1e}")


if __name__ == "__main__":
    main()
