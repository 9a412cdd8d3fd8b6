"""The stops of ``cmmulti demo``: what each shows, and the command that makes it."""

from __future__ import annotations

from dataclasses import dataclass

TRAINING, TRAINED = "training", "trained-model"

TRIAL_STEPS, MOST_STEPS, TRAINING_SECONDS = 20, 1000, 55
TRAIN = "train {demo_digits.yaml} --out {out}/training"
EXPORT = "export {out}/training --out {out}/trained-model"
"""Trains a digits model: a few steps to learn how fast the machine is, then as many as fit into a minute."""


@dataclass(frozen=True)
class Stop:
    """One stop of the tour: what it shows and the command that makes it, ``{out}`` and inputs filled in."""

    folder: str
    title: str
    text: str
    command: str
    model: str | None = None


STOPS = (
    Stop(
        "digits-1-step",
        "Handwritten digits in one step",
        "Twenty pictures of 8 x 8 pixels, two of each digit. Each came from noise in one network evaluation.",
        "sample digits --n 20 --steps 1 --seed 0",
        "digits",
    ),
    Stop(
        "digits-2-steps",
        "The same digits in two steps",
        "The same seeds, so the same noise, refined once: noise of a low level is added and removed again.",
        "sample digits --n 20 --steps 2 --seed 0",
        "digits",
    ),
    Stop(
        "spoken-digits-1-step",
        "Spoken digits in one step",
        "Clips of one second at 8 kHz: a log-mel picture in one network evaluation, then its waveform by Griffin-Lim.",
        "sample spoken-digits --n 4 --steps 1 --seed 0",
        "spoken-digits",
    ),
    Stop(
        "spoken-digits-2-steps",
        "Spoken digits in two steps",
        "The same seeds again.",
        "sample spoken-digits --n 4 --steps 2 --seed 0",
        "spoken-digits",
    ),
    Stop(
        "clip-inpainted",
        "A hole in a real recording, filled",
        "A tenth of a second of a held-out recording was removed; the model fills it from what is around it. Every sample "
        "outside the hole is the file's own. The figures compare with the recording before the hole was made.",
        "edit spoken-digits --task inpaint --input {digit-7-george.wav} --start 0.30 --end 0.40 --steps 4 --seed 0 "
        "--reference {digit-7-george.wav}",
        "spoken-digits",
    ),
    Stop(
        "head-mr",
        "An MR head from a quarter of its measurements",
        "A held-out head is measured in simulation, one line of k-space in four, and reconstructed from that alone.",
        "reconstruct head-mr --task mri --input {head-t1.nii.gz} --simulate --acceleration 4 --steps 4 --seed 0",
        "head-mr",
    ),
    Stop(
        "chest-ct",
        "A CT slice from 32 views",
        "Held-out slices are projected in simulation along 32 directions only, and reconstructed from those.",
        "reconstruct chest-ct --task ct --input {chest-ct-1.nii.gz} --simulate --views 32 --steps 4 --seed 0",
        "chest-ct",
    ),
    Stop(
        "digits-trained",
        "A digits model trained just now",
        "A small denoiser was trained from nothing for about a minute. A denoiser (teacher) needs many steps; the shipped "
        "model above was tuned to need one or two.",
        "sample {out}/trained-model --n 20 --steps 18 --seed 0",
    ),
)
