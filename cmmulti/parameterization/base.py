"""What every parameterization answers: four numbers per noise level, and the network's own time."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from numbers import Real
from typing import ClassVar, NamedTuple

from torch import Tensor

from cmmulti.errors import UserError


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

    def _check(self, key: str, least: float | None = None) -> None:
        """Refuse a setting that is no finite number above 0, or of at least ``least`` where that is told."""
        value = getattr(self, key)
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not value <= sys.float_info.max or not (value > 0 if least is None else value >= least):
            expected = "above 0" if least is None else f"of at least {least:g}"
            shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:37]}..."
            raise UserError(f"parameterization {self.kind}: {key} = {shown}: expected a finite number {expected}")
