"""Reconstruct a scan from part of its k-space, at several numbers of steps, beside simpler answers.

The measurement is simulated from a magnitude image, which is optimistic: see docs/limits.md.

python examples/reconstruct.py head-mr head.nii.gz --acceleration 4 --out head
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cmmulti.pipeline import Pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder or a shipped name")
    parser.add_argument("scan", type=Path, help="a NIfTI file")
    parser.add_argument("--acceleration", type=float, default=4)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    pipe = Pipeline.from_pretrained(args.model)
    options = {"simulate": True, "acceleration": args.acceleration}
    for number, steps in enumerate(args.steps):
        outcome = pipe.reconstruct(args.scan, "mri", options, steps=steps, seed=0)
        if number == 0:
            for name, figures in outcome.baselines.items():
                print(f"{name:28s} PSNR {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.3f}")
        print(f"{f'{steps} step(s)':28s} PSNR {outcome.metrics['psnr']:.2f} dB, SSIM {outcome.metrics['ssim']:.3f}")
        outcome.save(args.out / f"{steps}-steps")


if __name__ == "__main__":
    main()
