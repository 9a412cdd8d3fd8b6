"""How far each method's own fixed point lies from the exact consistency function, on a Gaussian of variance 0.25.

    python benchmarks/fixed_points.py

Closed form, no training: the discretisation bias that remains however long a method is trained. Per cent of the exact gain
at some noise levels; the levels of a grid are the nearest at or above those named.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cmmulti.testing.fixed_points import exact, karras, on_grid, progressive, shrinking, trajectory, truncated

VARIANCE = 0.25
LEVELS = (80.0, 10.0, 1.0, 0.1)
END = 0.002


def on_a_grid(n: int, gains: list[float], s: float) -> float:
    """Bias at the level of Karras' grid nearest above s; the boundary is at 0.002."""
    level, gain = min(pair for pair in zip(karras(n), gains, strict=True) if pair[0] >= s - 1e-9)
    return gain / exact(VARIANCE, level, END) - 1


def of_a_function(gain: Callable[[float], float], s: float) -> float:
    """Bias of a function whose boundary is at 0."""
    return gain(s) / exact(VARIANCE, s) - 1


def of_one_step(first: int, s: float) -> float | None:
    """Bias of one Euler step from 80 to 0.002, where generation ends, by the denoiser learned for it alone."""
    gain = progressive(VARIANCE, first, 1)[0]
    return (gain + END / 80 * (1 - gain)) / exact(VARIANCE, 80.0, END) - 1 if s == 80 else None


def rows() -> list[tuple[str, Callable[[float], float | None]]]:
    """Methods and their biases as functions of the noise level."""
    euler = {n: partial(on_a_grid, n, on_grid(VARIANCE, karras(n))) for n in (3, 11, 18, 40, 51, 151, 161, 1281)}
    heun = {n: partial(on_a_grid, n, on_grid(VARIANCE, karras(n), "heun")) for n in (18, 40)}
    jumps = {n: partial(on_a_grid, n, [row[-1] for row in trajectory(VARIANCE, karras(n))]) for n in (18, 40)}
    ect = {n: partial(of_a_function, partial(shrinking, VARIANCE, share=1 / n)) for n in (4, 16, 64, 256)}
    tcm = {n: partial(truncated, VARIANCE, share=1 / n, first_share=1 / 256) for n in (256, 1000)}
    return [
        *((f"cd, N = {n}, euler", euler[n]) for n in (18, 40)),
        *((f"cd, N = {n}, heun", heun[n]) for n in (18, 40)),
        *((f"ct, N = {n}", euler[n]) for n in (3, 18, 151)),
        *((f"ict, N = {n}", euler[n]) for n in (11, 161, 1281)),
        *((f"ect, step 1/{n}", bias) for n, bias in ect.items()),
        *((f"tcm, step 1/{n} on ect's 1/256", partial(of_a_function, gain)) for n, gain in tcm.items()),
        *((f"ctm, N = {n}", jumps[n]) for n in (18, 40)),
        ("lcm, N = 50, no guidance", euler[51]),
        *((f"progressive, {2 * n} steps into 1", partial(of_one_step, n)) for n in (64, 512, 4096)),
        ("sct, scd, meanflow", partial(of_a_function, partial(exact, VARIANCE))),
    ]


def main() -> None:
    print("| method | " + " | ".join(f"sigma {s:g}" for s in LEVELS) + " |")
    print("| --- |" + " ---: |" * len(LEVELS))
    for name, bias in rows():
        found = [bias(s) for s in LEVELS]
        print(f"| {name} | " + " | ".join("" if b is None else f"{100 * b:.2f} %" for b in found) + " |")


if __name__ == "__main__":
    main()
