"""How well a model reconstructs undersampled MRI of heads it has not seen, beside simpler ways.

    python benchmarks/mri_reconstruction.py head-mr --data-root DIR --subjects 12 --acceleration 4 8 --out mri.json
    python benchmarks/mri_reconstruction.py none --data-root DIR --split val --tune       # TV weights and sigpy's check
    python benchmarks/mri_reconstruction.py none --data-root DIR --split val --tune --noise 0.1 --weights 0.01 0.03

Twenty central slices of each subject of ``ixi-t1-2mm``, simulated from magnitude images: random mask, smooth unknown phase,
noise of 0.01, one coil (``--coils``). Each subject has its own mask. Figures are fastMRI's over the evaluated slices, then
means over subjects. Every system has the same measurements, and none is told scale, phase, sensitivities or noise (but for
what ``--noise`` gives). ``tv`` is real and non-negative with the phase that was estimated, ``tv-complex`` needs none; a
teacher walks the same levels with as many evaluations.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cmmulti.modality import DataSource
from cmmulti.operators.fourier import Fourier
from cmmulti.pipeline import Pipeline
from modalities.volume.item import Volume
from modalities.volume.modality import VolumeModality
from modalities.volume.mri.measured import MeasuredMRI
from modalities.volume.mri.task import MRIOptions, simulated
from modalities.volume.tv import tv_reconstruct

Figures = dict[str, float]


def scans(modality: VolumeModality, options: argparse.Namespace) -> list[Volume]:
    data = modality.dataset(DataSource(name="ixi-t1-2mm", root=options.data_root), options.split)
    return [data.case(i) for i in range(min(options.subjects, len(data.cases)))]


def task_options(options: argparse.Namespace, subject: int, acceleration: float) -> MRIOptions:
    return MRIOptions(
        simulate=True,
        coils=options.coils,
        acceleration=acceleration,
        mask_kind=options.mask_kind,
        mask_seed=subject,
        phase=options.phase,
        noise=options.noise,
    )


def evaluate(options: argparse.Namespace) -> dict[str, dict[str, Figures]]:
    """acceleration -> system -> mean figures."""
    systems = {"model": Pipeline.from_pretrained(options.model)} if options.model != "none" else {}
    if options.teacher:
        systems["teacher"] = Pipeline.from_pretrained(options.teacher)
    pipes = list(systems.values())
    modality = pipes[0].modality if pipes else VolumeModality(VolumeModality.Settings())
    assert isinstance(modality, VolumeModality)
    results: dict[str, dict[str, Figures]] = {}
    for acceleration in options.acceleration:
        each: dict[str, list[Figures]] = defaultdict(list)
        for subject, truth in enumerate(scans(modality, options)):
            chosen = task_options(options, subject, acceleration)
            if not systems:
                measured = MeasuredMRI.of(simulated(truth, modality.settings, chosen), modality.settings, None, "simulated")
                made = {
                    "zero-filled": measured.sampled.zero_filled(),
                    "tv": measured.tv(False),
                    "tv-complex": measured.tv(True),
                }
                for name, pictures in made.items():
                    each[name].append(modality.metrics(measured.stack.volume(pictures, truth), truth))
            for number, (system, pipe) in enumerate(systems.items()):
                for step, steps in enumerate(options.steps):
                    outcome = pipe.reconstruct(
                        truth, "mri", chosen.model_dump(exclude_none=True) | extra(options), steps=steps, seed=subject
                    )
                    each[f"{system}, {outcome.nfe} NFE"].append(outcome.metrics | {"seconds": outcome.seconds})
                    if number == step == 0 and not options.no_baselines:
                        assert outcome.assignment is not None
                        for name, make in outcome.assignment.baselines.items():
                            each[name].append(timed(modality, truth, make))
            print(f"{acceleration:g}x: subject {subject + 1} done", flush=True)
        results[f"{acceleration:g}x"] = {name: mean(figures) for name, figures in each.items()}
    return results


def extra(options: argparse.Namespace) -> dict[str, float]:
    return {} if options.start_level is None else {"start_level": options.start_level}


def timed(modality: VolumeModality, truth: Volume, make: Callable[[], Volume]) -> Figures:
    began = time.perf_counter()
    result = make()
    seconds = time.perf_counter() - began
    return modality.metrics(result, truth) | {"seconds": seconds}


def mean(figures: list[Figures]) -> Figures:
    return {name: float(np.mean([f[name] for f in figures])) for name in figures[0]} | {"subjects": len(figures)}


def tune(options: argparse.Namespace) -> dict[str, dict[str, Figures]]:
    """TV at each weight, real and complex; and one slice by sigpy, an implementation of its own."""
    modality = VolumeModality(VolumeModality.Settings())
    results: dict[str, dict[str, Figures]] = {}
    for acceleration in options.acceleration:
        each: dict[str, list[Figures]] = defaultdict(list)
        for subject, truth in enumerate(scans(modality, options)):
            item = simulated(truth, modality.settings, task_options(options, subject, acceleration))
            measured = MeasuredMRI.of(item, modality.settings, None, "simulated")
            for weight in options.weights:
                for kind, is_complex in (("tv", False), ("tv-complex", True)):
                    image = measured.stack.volume(measured.tv(is_complex, weight), truth)
                    each[f"{kind} {weight:g}"].append(modality.metrics(image, truth))
            print(f"{acceleration:g}x: subject {subject + 1} done", flush=True)
            if subject == 0:
                each["sigpy tv-complex, relative difference"].append(against_sigpy(measured))
        results[f"{acceleration:g}x"] = {name: mean(figures) for name, figures in each.items()}
    return results


def against_sigpy(measured: MeasuredMRI, weight: float = 0.005) -> Figures:
    """One slice by sigpy's PDHG (anisotropic TV of a complex image) and by ours."""
    import sigpy.mri.app

    sampled = measured.sampled
    part = len(sampled.y) // 2
    y = sampled.y[part : part + 1] / sampled.percentile
    A = sampled.acquisition()
    ours = tv_reconstruct(A, y, weight, A.adjoint(y), 1.0, iterations=300)[0, 0]
    kspace = Fourier((1, y.shape[3], y.shape[2]), dims=1)(y.mT).mT[0]
    theirs = sigpy.mri.app.TotalVariationRecon(
        kspace.numpy(), np.ones((1, *y.shape[2:]), np.complex64), weight, max_iter=1000, show_pbar=False
    ).run()
    difference = np.linalg.norm(ours.abs().numpy() - np.abs(theirs)) / np.linalg.norm(np.abs(theirs))
    return {"psnr": float("nan"), "ssim": float("nan"), "nmse": float(difference**2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or shipped name; `none` for the baselines alone")
    parser.add_argument("--data-root", type=Path, default=os.environ.get("CMMULTI_DATA"))
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--acceleration", type=float, nargs="+", default=[4.0, 8.0])
    parser.add_argument("--mask-kind", choices=["random", "equispaced"], default="random")
    parser.add_argument("--coils", type=int, default=1)
    parser.add_argument("--phase", choices=["tracked", "fixed", "centre"], default="tracked")
    parser.add_argument("--start-level", type=float)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--teacher", help="a denoising teacher to walk the same levels")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--noise", type=float, help="relative to the 99th percentile")
    parser.add_argument("--tune", action="store_true", help="search TV weights instead")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02])
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    options = parser.parse_args()
    results = tune(options) if options.tune else evaluate(options)
    for acceleration, systems in results.items():
        print(f"{acceleration:40s} PSNR dB    SSIM     NMSE   seconds")
        for name, f in systems.items():
            print(f"{name:40s} {f['psnr']:7.2f} {f['ssim']:7.4f} {f['nmse']:8.5f} {f.get('seconds', float('nan')):9.1f}")
    if options.out:
        written = {"benchmark": "mri_reconstruction", "options": vars(options), "results": results}
        options.out.write_text(json.dumps(written, indent=1, default=str))


if __name__ == "__main__":
    main()
