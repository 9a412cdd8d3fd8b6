"""How well a model reconstructs sparse-view CT slices of patients it has not seen, beside simpler ways.

    python benchmarks/ct_reconstruction.py chest-ct --data-root DIR --views 32 64 --out ct.json
    python benchmarks/ct_reconstruction.py none --data-root DIR --split val --tune --dose 1e4 --weights 1 3 10 30

Slices of ``ct-hu-256``; parallel beam over 180 degrees, simulated by another projector than the solver's, without noise
unless ``--dose`` gives photons per bin. PSNR, SSIM and NMSE are fastMRI's on the attenuation, ``MAE`` in HU where the truth
is tissue; means over slices. A slice whose spacing the model does not take is worked on at the model's, as by
``--resample``. Every system has the same sinogram; ``tv`` has the solver's projector, weights and bounds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from cmmulti.modality import DataSource
from cmmulti.pipeline import Pipeline
from modalities.volume.ct.measured import MeasuredCT
from modalities.volume.ct.task import CTOptions, simulated
from modalities.volume.item import Volume
from modalities.volume.modality import VolumeModality
from modalities.volume.representation import spacing_fits
from modalities.volume.settings import VolumeSettings

Figures = dict[str, float]
GRID = VolumeSettings(kind="ct", size=(256, 256), voxel_mm=(1.4, 1.4))
"""Of the shipped model, for the baselines alone."""


def scans(modality: VolumeModality, options: argparse.Namespace) -> list[Volume]:
    data = modality.dataset(DataSource(name="ct-hu-256", root=options.data_root), options.split)
    return [data.case(i) for i in range(min(options.slices, len(data.cases)))]


def asked(options: argparse.Namespace, views: int, number: int) -> dict[str, Any]:
    return {"simulate": True, "views": views, "dose": options.dose, "noise_seed": number}


def evaluate(options: argparse.Namespace) -> dict[str, dict[str, Figures]]:
    """views -> system -> mean figures."""
    systems = {} if options.model == "none" else {"model": Pipeline.from_pretrained(options.model)}
    if options.teacher:
        systems["teacher"] = Pipeline.from_pretrained(options.teacher)
    modality = next((p.modality for p in systems.values()), VolumeModality(GRID))
    assert isinstance(modality, VolumeModality)
    results: dict[str, dict[str, Figures]] = {}
    for views in options.views:
        each: dict[str, list[Figures]] = defaultdict(list)
        for number, truth in enumerate(scans(modality, options)):
            resample = not spacing_fits(truth, modality.settings)
            chosen = {k: v for k, v in asked(options, views, number).items() if v is not None} | {"resample": resample}
            item = simulated(truth, modality.settings, CTOptions(**chosen))
            measured = MeasuredCT.of(item, modality.settings, None, "CT", resample)
            for name, make in (("fbp", measured.fbp), ("tv", measured.tv)):
                began = time.perf_counter()
                image = measured.stack.volume(measured.to_hu(make()), truth)
                each[name].append(modality.metrics(image, truth) | {"seconds": time.perf_counter() - began})
            if options.start_level is not None:
                chosen["start_level"] = options.start_level
            for system, pipe in systems.items():
                for steps in options.steps:
                    outcome = pipe.reconstruct(truth, "ct", chosen, steps=steps, seed=number)
                    each[f"{system}, {outcome.nfe} NFE"].append(outcome.metrics | {"seconds": outcome.seconds})
            print(f"{views} views: slice {number + 1} done", flush=True)
        results[f"{views} views"] = {name: mean(figures) for name, figures in each.items()}
    return results


def mean(figures: list[Figures]) -> Figures:
    return {name: float(np.mean([f[name] for f in figures])) for name in figures[0]} | {"slices": len(figures)}


def tune(options: argparse.Namespace) -> dict[str, dict[str, Figures]]:
    """TV at each weight, and at its own."""
    modality = VolumeModality(GRID)
    results: dict[str, dict[str, Figures]] = {}
    for views in options.views:
        each: dict[str, list[Figures]] = defaultdict(list)
        for number, truth in enumerate(scans(modality, options)):
            item = simulated(truth, GRID, CTOptions(**asked(options, views, number)))
            measured = MeasuredCT.of(item, GRID, None, "CT", not spacing_fits(truth, GRID))
            for weight in (*options.weights, None):
                image = measured.stack.volume(measured.to_hu(measured.tv(weight)), truth)
                each["tv" if weight is None else f"tv {weight:g}"].append(modality.metrics(image, truth))
            print(f"{views} views: slice {number + 1} done", flush=True)
        results[f"{views} views"] = {name: mean(figures) for name, figures in each.items()}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or shipped name; `none` for the baselines alone")
    parser.add_argument("--data-root", type=Path, default=os.environ.get("CMMULTI_DATA"))
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--slices", type=int, default=100, help="at most so many")
    parser.add_argument("--views", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--dose", type=float, help="photons per detector bin and view")
    parser.add_argument("--start-level", type=float)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--teacher", help="a denoising teacher to walk the same levels")
    parser.add_argument("--tune", action="store_true", help="search TV weights instead")
    parser.add_argument("--weights", type=float, nargs="+", default=[30.0, 100.0, 300.0, 1000.0, 3000.0])
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    options = parser.parse_args()
    results = tune(options) if options.tune else evaluate(options)
    for views, systems in results.items():
        print(f"{views:24s} PSNR dB    SSIM     NMSE  MAE HU  seconds")
        for name, f in systems.items():
            line = f"{f['psnr']:7.2f} {f['ssim']:7.4f} {f['nmse']:8.5f} {f['mae_hu']:7.1f}"
            print(f"{name:24s} {line} {f.get('seconds', float('nan')):8.1f}")
    if options.out:
        written = {"benchmark": "ct_reconstruction", "options": vars(options), "results": results}
        options.out.write_text(json.dumps(written, indent=1, default=str))


if __name__ == "__main__":
    main()
