"""Fill a hole in a sound with several answers, and measure each beside silence.

python examples/inpaint_clip.py spoken-digits clip.wav --start 0.10 --end 0.20 --out filled
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cmmulti.pipeline import Pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder or a shipped name")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--start", type=float, required=True, help="seconds")
    parser.add_argument("--end", type=float, required=True, help="seconds")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    pipe = Pipeline.from_pretrained(args.model)
    options = {"start": [args.start], "end": [args.end]}
    # The clip itself is the reference: what lay in the hole never reaches the model, so the figures are honest.
    outcome = pipe.edit(args.clip, "inpaint", options, steps=4, samples=args.samples, reference=args.clip)
    outcome.save(args.out)

    original = np.asarray(pipe.modality.load(args.clip).samples)
    for seed, clip in zip(outcome.seeds, outcome.items, strict=True):
        changed = np.flatnonzero((clip.samples != original).any(axis=1))
        where = f"{changed[0] / clip.rate:.4f} to {(changed[-1] + 1) / clip.rate:.4f} s" if len(changed) else "nowhere"
        print(f"seed {seed}: changed {where}; every other sample is as it was")
    for name, figures in {"model": outcome.metrics, **outcome.baselines}.items():
        print(f"{name:24s}", {k: round(v, 3) for k, v in figures.items()})


if __name__ == "__main__":
    main()
