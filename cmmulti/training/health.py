"""What looks wrong in a run, from its log and its figures on held-out items, in words.

A loss alone misleads: its target moves with the student, curricula shift it, and learned weights pin it. Where held-out
items were looked at, they decide; the loss is asked only where there are none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from cmmulti.training.callbacks.log_file import NONFINITE, RANGES
from cmmulti.training.finding import Facts, Finding, Row, value_of
from cmmulti.training.health_samples import average, further_off, samples

WORSE = 2.5
"""Growth of a student's held-out error. The end of a trajectory is at most a sample of the posterior, whose squared error
is twice that of its mean, the teacher's; the rest is for the few items. Students that kept their teacher measured 0.9 to
1.6, one that lost its classes 9 and 12 at the levels that decide on them."""
WORSE_OVERALL = 1.7
"""Geometric mean of that growth over noise levels. Every level near its limit of 2 would be no consistency function that
training finds: students that kept their teacher measured 1.1 to 1.4."""
TEACHER_WORSE = 1.5
"""Growth of a denoiser's held-out error, which should only fall."""
HOPELESS = 3.0
"""A held-out error at one noise level: a network that answers 0 has 1, a perfect sample of the posterior at most 2."""
LOSS_WORSE = 1.4
"""Growth of a smoothed loss. Fourteen sound runs ended at 1.00 to 1.09 times their least, a student that lost what its
teacher knew at 1.54."""
RARE = 1e-3
"""Share of steps without a finite gradient that harms no run: they are left out."""
SMOOTHED = 5
"""Rows of the log in a smoothed loss: of few samples each, a single one may be twice the next."""


def findings(log: Sequence[Row], validation: Sequence[Row], facts: Facts) -> list[Finding]:
    """What looks wrong, worst first; empty where nothing does.

    Args:
        log: rows of ``log.csv``. validation: rows of ``validation.csv``, the one before the first step among them where the
            run was measured from the start. Columns of other versions may be missing.
    """
    found = [*_nonfinite(log, facts), *_worse(log, validation, facts)]
    if validation and validation[-1]["step"] > 0:
        found += samples(validation, facts) or ([] if found else further_off(validation, facts))
        found += average(validation[-1], facts)
    return [*found, *_unfinished(log, validation, facts, bool(found))]


def _step(log: Sequence[Row], validation: Sequence[Row]) -> int:
    return int(max((row["step"] for row in (*log[-1:], *validation[-1:])), default=0))


def _nonfinite(log: Sequence[Row], facts: Facts) -> list[Finding]:
    advice = "Start again with a lower optimizer.learning_rate or trainer.clip"
    if facts.precision != "32-true":
        advice += ", or with trainer.precision 32-true"
    counted = sum(value_of(row, "nonfinite", 0.0) for row in log)
    if counted:
        if counted <= RARE * _step(log, []) and counted <= facts.nonfinite / 2:
            return []
        by_range = {r: sum(value_of(row, c, 0.0) for row in log) for r, c in zip(RANGES, NONFINITE, strict=True)}
        worst = max(by_range, key=by_range.__getitem__)
        share = by_range[worst] / counted
        what = f"{counted:.0f} of {_step(log, [])} steps had no finite gradient and were left out"
        where = f", {share:.0%} of that at noise levels {_words(worst)}" if share else ""
        return [Finding("non-finite gradients", what + where, advice)]
    broken = [row for row in log if not all(math.isfinite(row.get(c, 0.0)) for c in ("loss", "grad_norm"))]
    if broken:
        first = f"first at step {broken[0]['step']:.0f}"
        what = f"loss or gradient norm is not finite in {len(broken)} of {len(log)} rows, {first}"
        return [Finding("non-finite gradients", what, advice)]
    return []


def _worse(log: Sequence[Row], validation: Sequence[Row], facts: Facts) -> list[Finding]:
    """The held-out error grew, at one noise level or at most of them; without such figures, the loss.

    A method in stages ends with a sample as its answer, and its last stages draw the highest level alone: errors may grow
    there, but not without bound.
    """
    if len(validation) < 2:
        return _loss_grew(log)
    limit = TEACHER_WORSE if facts.role == "teacher" else WORSE
    growth = _growth(validation)
    bad = {n: v for n, v in growth.items() if v.now > limit * v.best or v.now > max(HOPELESS, v.best)}
    if facts.staged:
        bad = {n: v for n, v in bad.items() if math.isinf(v.now)}
    overall = math.exp(sum(math.log(v.times) for v in growth.values()) / max(len(growth), 1))
    if facts.taught and not facts.staged and math.isfinite(overall) and (overall > WORSE_OVERALL or len(bad) > 1):
        worst = max(growth, key=lambda n: growth[n].times)
        now, best = growth[worst]
        return [
            Finding(
                "start forgotten" if facts.role == "teacher" else "student forgot its teacher",
                f"the held-out error is {overall:.2g} times that of the start over all noise levels, and {now:.3g} "
                f"instead of {best:.3g} at noise levels {_words(worst)}",
                "Start again with a lower optimizer.learning_rate or larger batches (data.batch_size)",
            )
        ]
    if not bad:
        return []
    worst = max(bad, key=lambda n: bad[n].times)
    now, best = bad[worst]
    at = f"at noise levels {_words(worst)}"
    if math.isinf(overall) or len(bad) > max(1, len(growth) // 2):
        return [
            Finding(
                "learning rate too high",
                f"the held-out error grew at {len(bad)} of {len(growth)} noise levels, {at} from {best:.3g} to {now:.3g}",
                "Start again with a lower optimizer.learning_rate, a warm-up (optimizer.warmup_steps) or trainer.clip",
            )
        ]
    others = [v.times for n, v in growth.items() if n not in bad]
    drawn = facts.named("p_mean", "p_std")
    more = f"a method that draws that level more often ({drawn}), or with " if drawn else ""
    return [
        Finding(
            "noise level diverges",
            f"the held-out error {at} went from {best:.3g} to {now:.3g}, elsewhere to {median(others):.2g} times its best",
            f"Start again with {more}a lower optimizer.learning_rate",
        )
    ]


class _Growth(NamedTuple):
    """A held-out error now, and the least of it before, both above 0."""

    now: float
    best: float

    @property
    def times(self) -> float:
        return self.now / self.best


def _growth(validation: Sequence[Row]) -> dict[str, _Growth]:
    """By range of the noise level, where the last row and one before it tell an error."""
    found = {}
    for name in RANGES:
        column = f"error_{name}"
        earlier = [row[column] for row in validation[:-1] if math.isfinite(value_of(row, column, math.nan))]
        now = value_of(validation[-1], column, math.nan)
        if earlier and not math.isnan(now):
            found[name] = _Growth(max(now, 1e-12), max(min(earlier), 1e-12))
    return found


def _loss_grew(log: Sequence[Row]) -> list[Finding]:
    """Of the stage that the log ends in, where rows tell it."""
    if log and "tangent_norm" in log[-1]:
        return []  # the target is made of the network's own derivative: its loss may rise while samples get better
    keys = [k for k in ("stage", "levels") if log and k in log[-1]]
    rows = [row for row in log if all(row.get(k) == log[-1][k] for k in keys)]
    losses = [row["loss"] for row in rows if math.isfinite(value_of(row, "loss", math.nan))]
    norms = [row["grad_norm"] for row in rows if math.isfinite(value_of(row, "grad_norm", math.nan))]
    if len(losses) < 2 * SMOOTHED or len(norms) < 2 * SMOOTHED:
        return []
    smooth = [median(losses[i : i + SMOOTHED]) for i in range(len(losses) - SMOOTHED + 1)]
    if min(smooth) <= 0 or smooth[-1] <= LOSS_WORSE * min(smooth):
        return []
    return [
        Finding(
            "learning rate too high",
            f"the loss rose from {min(smooth):.3g} to {smooth[-1]:.3g}, the gradient norm from "
            f"{median(norms[:SMOOTHED]):.3g} to {median(norms[-SMOOTHED:]):.3g}",
            "Start again with a lower optimizer.learning_rate, a warm-up (optimizer.warmup_steps) or trainer.clip",
        )
    ]


def _unfinished(log: Sequence[Row], validation: Sequence[Row], facts: Facts, ill: bool) -> list[Finding]:
    step = _step(log, validation)
    if step >= facts.max_steps:
        return []
    return [
        Finding(
            "not finished",
            f"the log ends at step {step} of {facts.max_steps} ({step / facts.max_steps:.0%})",
            f"If it no longer runs{', and nothing above says to start again' if ill else ''}, go on with train --resume",
        )
    ]


def _words(name: str) -> str:
    return name.replace("_", " to ").replace("to max", "and more")
