"""From a network's output to the clean estimate, for every convention of the literature.

One canonical process: ``x = x0 + sigma n`` (variance exploding). Every other process is a change of variables, so every
parameterization is four numbers per noise level,

    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)                        (EDM, arXiv 2206.00364, eq. 7)

and a map between ``sigma`` and the network's native time. All are stateless and exact in float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cmmulti.errors import UserError, unknown_name


class Coefficients(NamedTuple):
    """What turns a network into a denoiser at one noise level; each has the shape and dtype of ``sigma``."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    c_noise: Tensor


class Parameterization(ABC):
    """Network output <-> clean estimate, and sigma <-> native time.

    ``sigma`` is a tensor of any shape in float32 or better, in model space, ``>= 0``; results have its shape and dtype.
    """

    kind: ClassVar[str]

    @abstractmethod
    def coefficients(self, sigma: Tensor) -> Coefficients:
        """``c_in, c_skip, c_out, c_noise`` of the canonical process at ``sigma``."""

    @abstractmethod
    def to_native(self, sigma: Tensor) -> Tensor:
        """The network's own time: what it was trained to be told."""

    @abstractmethod
    def to_sigma(self, t: Tensor) -> Tensor:
        """The inverse of :meth:`to_native`."""

    @abstractmethod
    def scale(self, sigma: Tensor) -> Tensor:
        """``x_native = scale(sigma) * x``: the native process is a scaled copy of the canonical one."""

    @property
    def sigma_boundary(self) -> float:
        """The level at which the estimate equals its input exactly (0 but for the consistency form)."""
        return 0.0

    @property
    def limit(self) -> float | None:
        """Estimates of a teacher are held to plus and minus this, where its authors do so; None for no limit."""
        return None

    def network_input(self, sigma: Tensor) -> Tensor:
        """Factor from the native process to the network's input: ``c_in / scale``."""
        return self.coefficients(sigma).c_in / self.scale(sigma)


@dataclass(frozen=True)
class EDM(Parameterization):
    """EDM preconditioning (arXiv 2206.00364, table 1); native time ``ln(sigma) / 4``, boundary at sigma = 0."""

    kind: ClassVar[str] = "edm"
    sigma_data: float = 0.5

    def coefficients(self, sigma: Tensor) -> Coefficients:
        sd = self.sigma_data
        norm = sigma**2 + sd**2
        return Coefficients(norm.rsqrt(), sd**2 / norm, sigma * sd * norm.rsqrt(), self.to_native(sigma))

    def to_native(self, sigma: Tensor) -> Tensor:
        # The floor keeps the time finite at sigma = 0, where c_out is 0 and the network is not heard.
        return sigma.clamp_min(1e-8).log() / 4

    def to_sigma(self, t: Tensor) -> Tensor:
        return (4 * t).exp()

    def scale(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)


@dataclass(frozen=True)
class Consistency(EDM):
    """EDM's scalings shifted so that the estimate is the identity at ``sigma_min`` (arXiv 2303.01469, appendix C).

    ``c_out``'s denominator keeps ``sigma``, not ``sigma - sigma_min``.
    """

    kind: ClassVar[str] = "consistency"
    sigma_data: float = 0.5
    sigma_min: float = 0.002

    def coefficients(self, sigma: Tensor) -> Coefficients:
        sd, shifted = self.sigma_data, sigma - self.sigma_min
        norm = (sigma**2 + sd**2).rsqrt()
        return Coefficients(norm, sd**2 / (shifted**2 + sd**2), shifted * sd * norm, self.to_native(sigma))

    @property
    def sigma_boundary(self) -> float:
        return self.sigma_min


@dataclass(frozen=True)
class TrigFlow(Parameterization):
    """TrigFlow (arXiv 2410.11081, eq. 3-5): ``x_t = cos(t) x0 + sin(t) sigma_data z``, ``t = arctan(sigma/sigma_data)``.

    ``D = cos(t) x_t - sin(t) sigma_data F(x_t / sigma_data, t)``; F has the opposite sign of EDM's.
    """

    kind: ClassVar[str] = "trigflow"
    sigma_data: float = 0.5

    def coefficients(self, sigma: Tensor) -> Coefficients:
        sd = self.sigma_data
        norm = sigma**2 + sd**2
        return Coefficients(norm.rsqrt(), sd**2 / norm, -sigma * sd * norm.rsqrt(), self.to_native(sigma))

    def to_native(self, sigma: Tensor) -> Tensor:
        return torch.atan2(sigma, torch.full_like(sigma, self.sigma_data))

    def to_sigma(self, t: Tensor) -> Tensor:
        return self.sigma_data * torch.tan(t)

    def scale(self, sigma: Tensor) -> Tensor:
        return self.sigma_data * (sigma**2 + self.sigma_data**2).rsqrt()

    def network_input(self, sigma: Tensor) -> Tensor:
        # Constant: the quotient of c_in and scale has a derivative of rounding errors, large where sigma is.
        return torch.full_like(sigma, 1 / self.sigma_data)


@dataclass(frozen=True)
class Flow(Parameterization):
    """Flow matching ``x_u = (1-u) x0 + u z`` with velocity ``v = z - x0``: ``u = sigma/(1+sigma)``, ``D = x_u - u v``."""

    kind: ClassVar[str] = "flow"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        u = self.to_native(sigma)
        return Coefficients(1 - u, 1 - u, -u, u)

    def to_native(self, sigma: Tensor) -> Tensor:
        return sigma / (1 + sigma)

    def to_sigma(self, t: Tensor) -> Tensor:
        return t / (1 - t)

    def scale(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)

    def network_input(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)


@dataclass(frozen=True)
class FlowToData(Flow):
    """Flow matching that runs the other way, as the library flow_matching has it: ``x_t = (1-t) z + t x0``, ``v = x0 - z``.

    ``t = 1/(1+sigma)`` is 1 for data, ``D = x_t + (1-t) v``.
    """

    kind: ClassVar[str] = "flow-to-data"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        t = self.to_native(sigma)
        return Coefficients(t, t, 1 - t, t)

    def to_native(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)

    def to_sigma(self, t: Tensor) -> Tensor:
        return (1 - t) / t


@dataclass(frozen=True)
class DDPM(Parameterization):
    """A variance-preserving network on discrete times (DDPM, DDIM, Stable Diffusion's schedules).

    Args:
        alphas_cumprod: alpha-bar for every index, decreasing.
        prediction: ``"epsilon"`` (noise) or ``"v"`` (``alpha z - sigma x0``).
        clip: estimates are held to plus and minus this, as the network's own schedule does; None for no limit.

    The native time is the index, interpolated linearly in ``ln sigma``; outside the table it is held at its ends.
    """

    kind: ClassVar[str] = "ddpm"
    alphas_cumprod: tuple[float, ...] = ()
    prediction: str = "epsilon"
    clip: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "alphas_cumprod", tuple(self.alphas_cumprod))  # a list where it was read from a file
        if self.clip is not None and not self.clip > 0:
            raise UserError(f"DDPM clip: expected a number above 0, got {self.clip}")
        if self.prediction not in ("epsilon", "v"):
            raise unknown_name("DDPM prediction", self.prediction, ("epsilon", "v"))
        if len(self.alphas_cumprod) < 2 or any(
            not 0 < b < a < 1 for a, b in zip(self.alphas_cumprod, self.alphas_cumprod[1:], strict=False)
        ):
            raise UserError("DDPM alphas_cumprod: expected at least two values falling inside (0, 1)")

    def coefficients(self, sigma: Tensor) -> Coefficients:
        norm = (1 + sigma**2).rsqrt()
        if self.prediction == "epsilon":
            return Coefficients(norm, torch.ones_like(sigma), -sigma, self.to_native(sigma))
        return Coefficients(norm, norm**2, -sigma * norm, self.to_native(sigma))

    def to_native(self, sigma: Tensor) -> Tensor:
        table = self._log_sigmas(sigma)
        log_sigma = sigma.clamp_min(1e-20).log().clamp(table[0], table[-1])
        high = torch.searchsorted(table, log_sigma.contiguous()).clamp(1, len(table) - 1)
        low = high - 1
        fraction = (log_sigma - table[low]) / (table[high] - table[low])
        return low.to(sigma.dtype) + fraction

    def to_sigma(self, t: Tensor) -> Tensor:
        table = self._log_sigmas(t)
        t = t.clamp(0, len(table) - 1)
        low = t.floor().long().clamp_max(len(table) - 2)
        fraction = t - low
        return (table[low] * (1 - fraction) + table[low + 1] * fraction).exp()

    def scale(self, sigma: Tensor) -> Tensor:
        return (1 + sigma**2).rsqrt()

    @property
    def limit(self) -> float | None:
        return self.clip

    @property
    def sigma_max(self) -> float:
        """The last level that the network was trained on."""
        last = self.alphas_cumprod[-1]
        return math.sqrt((1 - last) / last)

    def _log_sigmas(self, like: Tensor) -> Tensor:
        return _log_sigmas(self.alphas_cumprod, like.device, like.dtype)


@lru_cache(maxsize=16)
def _log_sigmas(bars: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The table of a schedule, once per device: a copy from the host at every evaluation would wait for the device."""
    with torch.inference_mode(False):
        exact = torch.tensor(bars, dtype=torch.float64)
        return (((1 - exact) / exact).log() / 2).to(device, dtype)


KINDS: dict[str, type[Parameterization]] = {c.kind: c for c in (EDM, Consistency, TrigFlow, Flow, FlowToData, DDPM)}


def parameterization(kind: str, **settings: object) -> Parameterization:
    """The parameterization called ``kind`` with its own settings, as a model's config names it."""
    if kind not in KINDS:
        raise unknown_name("parameterization", kind, KINDS)
    return KINDS[kind](**settings)
