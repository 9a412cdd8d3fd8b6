"""How well a model reconstructs real k-space of eight coils, beside simpler ways and with sigpy's ESPIRiT maps.

    python benchmarks/measured_mri.py head-mr --data-root DIR --acceleration 2 3 4 --out measured.json
    python benchmarks/measured_mri.py head-mr --data-root DIR --own-mask           # 2 x 2 and a full centre
    python benchmarks/measured_mri.py head-mr --data-root DIR --own-mask --full    # the same at 1 mm

The slice of ``kspace-2d/brain8_full.npz``: raw, fully sampled, eight coils, about 1 mm. Its central k-space is kept, as
much of it as pixels of 2 mm need (``--full`` keeps all, and lets the model work on its own pixels), then columns are left
out by fastMRI's random masks, or points by the mask that the file has. The truth is the root sum of squares of the coils'
images of what was kept. Each system gets the undersampled k-space alone. Figures are fastMRI's, means over masks;
``in head`` is the PSNR of the head alone, without the air around it, whose noise is in the truth.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from cmmulti.pipeline import Pipeline
from modalities.volume.item import Array, Volume
from modalities.volume.mri.estimates import zero_filled
from modalities.volume.mri.kspace import KSpace
from modalities.volume.mri.masks import cartesian_mask, centre_box, centre_lines

Figures = dict[str, float]

FIELD_OF_VIEW_MM = (230.0, 180.0)
"""Of the slice: its file says 230 x 180 samples, and its head has the size of heads where they are 1 mm apart."""


def measured(root: Path, full: bool) -> tuple[KSpace, Array]:
    """All of the slice's k-space, or what pixels of 2 mm need, and the file's own mask (ky, kx). Rows count to the back,
    columns to the patient's left."""
    with np.load(root / "kspace-2d" / "brain8_full.npz", allow_pickle=False) as arrays:
        kspace, own = arrays["kspace"], arrays["mask_2x2_acs"]
    if not full:
        rows, columns = (round(mm / 2 / 2) * 2 for mm in FIELD_OF_VIEW_MM)
        top, left = (kspace.shape[1] - rows) // 2, (kspace.shape[2] - columns) // 2
        kept = np.s_[..., top : top + rows, left : left + columns]
        kspace, own = kspace[kept], own[kept]
    down, right = (mm / n for mm, n in zip(FIELD_OF_VIEW_MM, kspace.shape[1:], strict=True))
    affine = np.array([[0, -right, 0, 0], [-down, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
    return KSpace(np.ascontiguousarray(kspace[None]), np.ones(kspace.shape[2], bool), affine), own


def masks(options: argparse.Namespace, own: Array) -> dict[str, list[Array]]:
    """By their name: acceleration, or the file's own."""
    if options.own_mask:
        return {"own mask": [own]}
    columns = own.shape[1]
    return {
        f"{a:g}x": [cartesian_mask("random", columns, a, options.calibration, seed) for seed in range(options.masks)]
        for a in options.acceleration
    }


def with_espirit(item: KSpace) -> KSpace:
    """The same measurement with the sensitivities that sigpy's ESPIRiT finds in its centre."""
    from sigpy.mri.app import EspiritCalib

    centre = (centre_lines(item.mask),) if item.mask.ndim == 1 else centre_box(item.mask)
    width = min(24, *(lines.stop - lines.start for lines in centre))
    maps = EspiritCalib(item.kspace[0], calib_width=width, kernel_width=min(6, width), crop=0, show_pbar=False).run()
    return replace(item, sensitivities=maps[None].astype(np.complex64))


def inside(truth: Volume) -> Array:
    """(I, J, K) bool: the head, without the air around it."""
    values = truth.values()[..., 0]
    bright = ndimage.binary_opening(values > 0.15 * np.percentile(values, 99))
    return ndimage.binary_fill_holes(bright)[..., None]


def evaluate(options: argparse.Namespace) -> dict[str, dict[str, Figures]]:
    """mask -> system -> mean figures."""
    pipe = Pipeline.from_pretrained(options.model)
    whole, own = measured(options.data_root, options.full)
    truth = Volume(np.moveaxis(zero_filled(whole).numpy(), 0, -1), whole.affine)
    head = inside(truth)

    def figures(result: Volume, seconds: float) -> Figures:
        in_head = pipe.modality.metrics(result, truth, head)["psnr"]
        return pipe.modality.metrics(result, truth) | {"in head": in_head, "seconds": seconds}

    results: dict[str, dict[str, Figures]] = {}
    for kind, several in masks(options, own).items():
        each: dict[str, list[Figures]] = defaultdict(list)
        for seed, mask in enumerate(several):
            item = replace(whole, kspace=np.where(mask, whole.kspace, 0), mask=mask)
            inputs = {"": item} | ({", ESPIRiT maps": with_espirit(item)} if options.espirit else {})
            for suffix, given in inputs.items():
                for steps in options.steps:
                    outcome = pipe.reconstruct(
                        given, "mri", {"resample": options.full}, steps=steps, seed=seed, reference=truth
                    )
                    each[f"model{suffix}, {outcome.nfe} NFE"].append(figures(outcome.items[0], outcome.seconds))
                assert outcome.assignment is not None
                for name, make in outcome.assignment.baselines.items():
                    began = time.perf_counter()
                    made = make()
                    each[name + suffix].append(figures(made, time.perf_counter() - began))
        results[kind] = {
            name: {key: float(np.mean([f[key] for f in found])) for key in found[0]} for name, found in each.items()
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or shipped name")
    parser.add_argument("--data-root", type=Path, default=os.environ.get("CMMULTI_DATA"))
    parser.add_argument("--acceleration", type=float, nargs="+", default=[2.0, 3.0, 4.0])
    parser.add_argument(
        "--calibration", type=float, default=0.133, help="share of the columns kept around the centre: 12 of 90"
    )
    parser.add_argument("--own-mask", action="store_true", help="the mask of the file in place of random columns")
    parser.add_argument("--masks", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--full", action="store_true", help="all of k-space, pixels of 1 mm")
    parser.add_argument("--espirit", action="store_true", help="also with sigpy's maps")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    options = parser.parse_args()
    results = evaluate(options)
    for kind, systems in results.items():
        print(f"{kind:40s} PSNR dB in head    SSIM     NMSE   seconds")
        for name, f in systems.items():
            print(f"{name:40s} {f['psnr']:7.2f} {f['in head']:7.2f} {f['ssim']:7.4f} {f['nmse']:8.5f} {f['seconds']:9.1f}")
    if options.out:
        written = {"benchmark": "measured_mri", "options": vars(options), "results": results}
        options.out.write_text(json.dumps(written, indent=1, default=str))


if __name__ == "__main__":
    main()
