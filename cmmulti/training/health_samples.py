"""What looks wrong in the samples of a run and in the average that is exported."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cmmulti.training.finding import Facts, Finding, Row, value_of

NOISY = 0.15
"""Samples that are rougher than the items by this share of the way to white noise. Trained models of pictures, sound and
scans measured -0.06 to 0.02, a denoiser of scans that had trained too little 0.25; white noise is 1."""
COLLAPSED = 0.35
"""Least spread of samples, of the items'. Trained models measured 0.56 to 1.05, the lowest of them denoisers at 8 Euler
steps; at 0.35 a class has an eighth of the items' variance."""
FURTHER = 0.1
"""Growth of the energy distance of samples to the items. Five runs of digits that were well ended at most 0.003 above their
least; a student that learned low noise levels alone went from 0.04 to 0.16."""
EMA_WORSE = 1.1
"""Error of the average over that of the weights: both see the same items and noise, so that little of it is chance."""


def samples(validation: Sequence[Row], facts: Facts) -> list[Finding]:
    """Noise before collapse: a network that knows nothing yet answers faint noise, which has no spread either."""
    row, step = validation[-1], int(validation[-1]["step"])
    noise, spread = value_of(row, "noise", math.nan), value_of(row, "spread", math.nan)
    if facts.staged and step < facts.max_steps:
        return []
    early = step < facts.max_steps / 3
    if noise == math.inf or spread == math.inf:
        return [
            Finding(
                "samples are not finite",
                f"samples at step {step} hold NaN or infinity",
                "Start again with a lower optimizer.learning_rate or trainer.clip",
            )
        ]
    if noise > NOISY:
        least = min(validation, key=lambda earlier: value_of(earlier, "noise", math.inf))
        what = f"samples at step {step} are {noise:.0%} of the way from held-out items to white noise"
        if noise > least["noise"] + NOISY:
            advice = (
                "Start again with a lower optimizer.learning_rate, a warm-up (optimizer.warmup_steps) or larger batches"
            )
            return [Finding("samples turn to noise", f"{what}; at step {least['step']:.0f} they were smoother", advice)]
        further = "train longer" if facts.taught else "train longer, or start from a trained denoiser (--init)"
        advice = f"If it still falls (noise in validation.csv), {further}; if not, another optimizer.learning_rate may do"
        return [Finding("samples stay noise", what, "It is early: let it train on" if early else advice)]
    if spread < COLLAPSED:
        how, stages = "Train longer", facts.named("stages")
        if facts.role == "teacher":
            how += "; a denoiser's samples spread last"
        else:
            how = f"Let the curriculum reach its small steps (trainer.max_steps, {stages})" if stages else how
            how += ", or start again with a lower optimizer.learning_rate"
        return [
            Finding(
                "collapse",
                f"samples of a class at step {step} spread {spread:.0%} as far as held-out items",
                "It is early: let it train on" if early else how,
            )
        ]
    return []


def further_off(validation: Sequence[Row], facts: Facts) -> list[Finding]:
    """Samples that have left the items again, while error, noise and spread are well."""
    rows = [row for row in validation if math.isfinite(value_of(row, "distance", math.nan))]
    if facts.staged or not rows or rows[-1] is not validation[-1]:
        return []
    best = min(rows, key=lambda row: row["distance"])
    if rows[-1]["distance"] <= best["distance"] + FURTHER:
        return []
    drawn = facts.named("p_mean", "p_std")
    often = f"; a sample starts at sigma_max, which the method has to draw often enough ({drawn})" if drawn else ""
    return [
        Finding(
            "samples got worse",
            f"their distance to held-out items was {best['distance']:.2g} at step {best['step']:.0f} and is now "
            f"{rows[-1]['distance']:.2g} (0: one distribution)",
            f"Start again with a lower optimizer.learning_rate{often}",
        )
    ]


def average(row: Row, facts: Facts) -> list[Finding]:
    error, raw = value_of(row, "error", math.nan), value_of(row, "raw_error", math.nan)
    if not error > EMA_WORSE * raw:
        return []
    return [
        Finding(
            "average not useful yet",
            f"the average {facts.export or 'that is exported'} has a held-out error of {error:.3g}, the weights themselves "
            f"have {raw:.3g}",
            "Train longer, export a shorter average (export --ema), or shorten ema.half_lives",
        )
    ]
