"""What each method's training converges to on a Gaussian, worked out from the papers' formulas alone.

For ``x0 ~ N(mu, v)`` and ``x = x0 + s n`` every function that a method can learn is ``mu + a(s) (x - mu)``: a gain ``a``. A
discrete method matches ``f(x_s, s)`` to ``f(x_r, r)`` one step below; where ``f(., r)`` is affine, its mean given ``x_s``
multiplies by ``(v + s r) / (v + s^2)``, be the step one of Euler's along the teacher's ODE or a pair with shared noise. The
law of what is matched is symmetric about that mean, so that every distance has the same fixed point. All in float64, and
nothing here calls a method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

Step = Callable[[float, float, float], float]
"""(v, s, r) -> what a step from s to r multiplies ``x - mu`` by."""


def exact(v: float, s: float, end: float = 0.0) -> float:
    """The consistency function: ``sqrt((v + end^2) / (v + s^2))``; continuous-time methods have no other fixed point."""
    return math.sqrt((v + end**2) / (v + s**2))


def denoiser(v: float, s: float) -> float:
    """The posterior mean, ``v / (v + s^2)``."""
    return v / (v + s**2)


def euler(v: float, s: float, r: float) -> float:
    """One Euler step of ``dx/ds = s (x - mu) / (v + s^2)``, which is ``(v + s r) / (v + s^2)``."""
    return 1 + (r - s) * s / (v + s**2)


def heun(v: float, s: float, r: float) -> float:
    """Heun's step: the mean of the slopes at both ends."""
    return 1 + (r - s) / 2 * (s / (v + s**2) + euler(v, s, r) * r / (v + r**2))


STEPS: dict[str, Step] = {"euler": euler, "heun": heun}


def karras(n: int, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> list[float]:
    """``n`` falling levels (arXiv 2206.00364, eq. 5)."""
    a, b = high ** (1 / rho), low ** (1 / rho)
    return [(a + i / (n - 1) * (b - a)) ** rho for i in range(n)]


def on_grid(v: float, levels: Sequence[float], solver: Literal["euler", "heun"] = "euler") -> list[float]:
    """Gains of CD, and with Euler of CT and iCT, on falling levels whose last is the boundary, where the gain is 1."""
    gains = [1.0]
    for r, s in pairwise(reversed(levels)):
        gains.append(gains[-1] * STEPS[solver](v, s, r))
    return gains[::-1]


def shrinking(v: float, s: float, share: float, k: float = 8.0, b: float = 1.0) -> float:
    """Gain at ``s`` of ECT in a stage of step ``share``: ``r = s max(0, 1 - share (1 + k sigmoid(-b s)))``.

    arXiv 2406.14548, section 3.2. Below 1e-7 of the data's deviation the function is the identity.
    """
    gain = 1.0
    while s > 1e-7 * math.sqrt(v):
        r = s * max(0.0, 1 - share * (1 + k / (1 + math.exp(b * s))))
        gain *= euler(v, s, r)
        s = r
    return gain


def truncated(v: float, s: float, share: float, first_share: float, split: float = 1.0) -> float:
    """TCM: steps of ``share`` down to below ``split``, where the first stage's function of ``first_share`` takes over."""
    gain = 1.0
    while s >= split:
        r = s * max(0.0, 1 - share * (1 + 8.0 / (1 + math.exp(s))))
        gain *= euler(v, s, r)
        s = r
    return gain * shrinking(v, s, first_share)


def progressive(v: float, first: int, last: int) -> list[float]:
    """Gains of the *denoiser* at the ``last`` levels of the sampler, each of whose Euler steps is ``2 first / last`` steps.

    A student's step equals two of its teacher's, on a curve cut into twice as many intervals; the first teacher is exact.
    The estimate whose one Euler step from t to t'' multiplies by p is ``(t p - t'') / (t - t'')``.
    """
    fine = karras(2 * first + 1)
    width = 2 * first // last
    gains = []
    for i in range(last):
        part = fine[i * width : (i + 1) * width + 1]
        product = math.prod(euler(v, s, r) for s, r in pairwise(part))
        gains.append((part[0] * product - part[-1]) / (part[0] - part[-1]))
    return gains


def trajectory(v: float, levels: Sequence[float]) -> list[list[float]]:
    """CTM: gains of jumps from place i to place j >= i of the grid, each the product of Heun's steps between (eq. 9)."""
    n = len(levels)
    steps = [heun(v, s, r) for s, r in pairwise(levels)]
    return [[math.prod(steps[i:j]) for j in range(n)] for i in range(n)]


def guided(
    label: tuple[float, float], null: tuple[float, float], weight: float, levels: Sequence[float]
) -> list[tuple[float, float]]:
    """LCM: (gain, offset) of ``gain x + offset`` on falling levels for a guided teacher, Euler's steps between them.

    ``label``, ``null``: (mean, variance) of the two Gaussians; the teacher's estimate is ``D_null + w (D_label - D_null)``.
    """

    def estimate(s: float) -> tuple[float, float]:
        (g1, o1), (g0, o0) = ((denoiser(v, s), (1 - denoiser(v, s)) * mu) for mu, v in (label, null))
        return g0 + weight * (g1 - g0), o0 + weight * (o1 - o0)

    found = [(1.0, 0.0)]
    for r, s in pairwise(reversed(levels)):
        gain, offset = estimate(s)
        # x_r = x + (r - s) (x - gain x - offset) / s
        step = 1 + (r / s - 1) * (1 - gain)
        shift = (1 - r / s) * offset
        below = found[-1]
        found.append((below[0] * step, below[0] * shift + below[1]))
    return found[::-1]
