"""How well a model fills holes in spoken digits, beside simpler ways.

    python benchmarks/audio_inpainting.py spoken-digits --clips 100 --steps 1 2 4 --out audio_inpainting.json

Test clips of ``fsdd`` (below ``--root`` or ``CMMULTI_DATA``); a hole of 50, 100 and 200 ms in each, at a place drawn from
the seed where the clip is at least as loud as 30 dB below its loudest. Per system and length: median log-spectral distance
in the hole (dB), median size of the level error (dB), and the seam measure (median over clips and both seams of the step
across the seam over the RMS of steps within 5 ms). ``true mel`` is the floor of the front end: the same way back, from the
true log-mel. ``start`` is what the model's edits begin with, unchanged by the network, the same way back.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from cmmulti.modality import DataSource
from cmmulti.pipeline import Pipeline
from cmmulti.randomness import SampleRandomness
from modalities.audio import baselines, inpaint
from modalities.audio.clip import Clip
from modalities.audio.measures import level_error, log_spectral_distance, seam_ratios
from modalities.audio.modality import AudioModality
from modalities.audio.representation import to_model

LENGTHS = (0.05, 0.1, 0.2)
CONTEXT = 0.06
"""Least seconds of the clip on either side of a hole."""
LOUD = 1e-3
"""Power of the hole over that of the clip's loudest 20 ms."""


def place(clip: Clip, length: float, generator: np.random.Generator) -> tuple[int, int] | None:
    """A hole in a part of the clip that is not silent, or None where there is no room."""
    size, context = round(length * clip.rate), round(CONTEXT * clip.rate)
    room = clip.frames - size - 2 * context
    if room <= 0:
        return None
    power = clip.mid() ** 2
    block = round(0.02 * clip.rate)
    loudest = np.convolve(power, np.ones(block) / block, "valid").max()
    for _ in range(20):
        start = context + int(generator.integers(room))
        if power[start : start + size].mean() > LOUD * loudest:
            return start, start + size
    return None


def true_mel(clip: Clip, span: tuple[int, int], modality: AudioModality) -> Clip:
    """The floor: the window's own log-mel, hole and all, through the same way back."""
    found = inpaint.windows(clip, [span], modality.settings)
    window = found[0]
    untouched = inpaint.excerpt(clip, window, modality.settings)
    x = to_model(untouched[None], modality.settings)
    return inpaint.filled(clip, found, x, modality.settings, SampleRandomness([0]))


def start(clip: Clip, span: tuple[int, int], modality: AudioModality) -> Clip:
    """What an edit begins with, and no network after it."""
    found = inpaint.windows(clip, [span], modality.settings)
    x, _ = inpaint.measured(found, modality.settings)
    begun = inpaint.begun(found, x, modality.settings)
    return inpaint.filled(clip, found, begun, modality.settings, SampleRandomness([0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or shipped name; `none` for the baselines and the floor alone")
    parser.add_argument("--root", type=Path, help="folder of data sets")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--levels", nargs="+", default=[], metavar="S1,S2", help="lists of noise levels beside the task's own"
    )
    parser.add_argument("--split", choices=("val", "test"), default="test", help="val for choosing settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    options = parser.parse_args()
    pipeline = None if options.model == "none" else Pipeline.from_pretrained(options.model)
    source = DataSource(name="fsdd", root=options.root)
    modality = AudioModality(AudioModality.Settings()).measured(source) if pipeline is None else pipeline.modality
    assert isinstance(modality, AudioModality)
    test = modality.dataset(source, options.split)
    figures: dict[str, dict[str, float]] = {}
    for length in LENGTHS:
        generator = np.random.default_rng(options.seed)
        found: dict[str, list[tuple[float, float, list[float]]]] = defaultdict(list)
        for number in generator.permutation(len(test)).tolist():
            clip = test.item(number)
            span = place(clip, length, generator)
            if span is None:
                continue
            for system, fill in systems(clip, span, pipeline, modality, options).items():
                found[system].append(measured(fill(), clip, span))
            if len(found["silence"]) == options.clips:
                break
        for system, rows in found.items():
            figures[f"{system}, {1000 * length:.0f} ms"] = {
                "clips": len(rows),
                "lsd": median(r[0] for r in rows),
                "level_error": median(abs(r[1]) for r in rows),
                "seam": median(s for r in rows for s in r[2]),
            }
    print("| system | clips | LSD dB | level error dB | seam |\n|---|---|---|---|---|")
    for name, row in figures.items():
        print(f"| {name} | {row['clips']} | {row['lsd']:.2f} | {row['level_error']:.2f} | {row['seam']:.2f} |")
    if options.out is not None:
        options.out.write_text(json.dumps({"model": options.model, "seed": options.seed, "figures": figures}, indent=2))


def systems(
    clip: Clip, span: tuple[int, int], pipeline: Pipeline | None, modality: AudioModality, options: argparse.Namespace
) -> dict[str, Callable[[], Clip]]:
    """Everything that fills the hole, by name."""
    result: dict[str, Callable[[], Clip]] = {"truth": lambda: clip, **baselines.of(clip, [span])}
    result |= {"true mel": lambda: true_mel(clip, span, modality), "start": lambda: start(clip, span, modality)}
    if pipeline is not None:
        seconds = {"start": [span[0] / clip.rate], "end": [span[1] / clip.rate]}

        def edited(steps: int, levels: list[float] | None = None) -> Clip:
            edit = pipeline.edit(clip, "inpaint", seconds, steps=steps, seed=options.seed, levels=levels)
            item: Clip = edit.items[0]
            return item

        for n in options.steps:
            result[f"model, {n} step{'s' * (n > 1)}"] = partial(edited, n)
        for text in options.levels:
            result[f"model at {text}"] = partial(edited, 4, [float(v) for v in text.split(",")])
    return result


def measured(result: Clip, truth: Clip, span: tuple[int, int]) -> tuple[float, float, list[float]]:
    """LSD, level error and seam ratios of one result."""
    a, b = result.mid(), truth.mid()
    return (
        log_spectral_distance(a, b, truth.rate, [span]),
        level_error(a, b, [span]),
        seam_ratios(result.floats(), truth.rate, [span]),
    )


if __name__ == "__main__":
    main()
