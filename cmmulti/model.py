"""Model = network + parameterization: a function from a noisy tensor and its noise level to a clean one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.errors import UserError, unknown_name
from cmmulti.nn.precision import full_precision
from cmmulti.noise import SIGMA_MAX
from cmmulti.parameterization import Parameterization

Role = Literal["teacher", "consistency", "two-time"]
ROLES: tuple[str, ...] = ("teacher", "consistency", "two-time")


class Model(nn.Module):
    """A network with the numbers that make it a denoiser.

    Args:
        network: ``forward(x, time, condition, time_next=None) -> like x``.
        parameterization: how its output becomes a clean estimate.
        role: what its estimate means. ``"teacher"``: the posterior mean. ``"consistency"``: the end of the trajectory
            through ``x``. ``"two-time"``: both, and every point between (``time_next`` is told).
        sigma_max: highest level it was trained on.
        evaluation_batch: most samples per network call outside training; None for all at once.

    ``x`` is (B, C, *spatial); ``sigma`` a float or (B,), the standard deviation of the noise in ``x``, model space,
    ``0 <= sigma <= sigma_max``. Estimates are float32 whatever autocast says: the network alone runs in lower precision.
    ``nfe`` counts network evaluations per sample since the model was made.
    """

    def __init__(
        self,
        network: nn.Module,
        parameterization: Parameterization,
        role: Role = "teacher",
        sigma_max: float = SIGMA_MAX,
        evaluation_batch: int | None = None,
    ) -> None:
        super().__init__()
        if role not in ROLES:
            raise unknown_name("model role", role, ROLES)
        self.network = network
        self.parameterization = parameterization
        self.role = role
        self.sigma_max = float(sigma_max)
        self.evaluation_batch = evaluation_batch
        self.nfe = 0

    @property
    def sigma_boundary(self) -> float:
        """Where :meth:`endpoint` is the identity: the end of every trajectory."""
        return self.parameterization.sigma_boundary

    @property
    def device(self) -> torch.device:
        """Where the weights lie; the CPU where there are none."""
        held = next(self.parameters(), next(self.buffers(), None))
        return torch.device("cpu") if held is None else held.device

    def denoise(self, x: Tensor, sigma: Tensor | float, condition: Condition = NO_CONDITION) -> Tensor:
        """The posterior mean E[x0 | x], (B, C, *spatial).

        ``condition.guidance`` (B,) asks for classifier-free guidance, ``D_null + w (D_label - D_null)``: two evaluations.

        Raises:
            UserError: the model is a one-time consistency model, which has no posterior mean.
        """
        if self.role == "consistency":
            raise UserError(
                "this is a consistency model: it knows where a trajectory ends, not the posterior mean; use endpoint()"
            )
        # A two-time network denoises on its diagonal, where both times are the same.
        diagonal = self._levels(x, sigma) if self.role == "two-time" else None
        return self._held(self._guided(x, sigma, condition, diagonal))

    def diagonal(self, x: Tensor, sigma: Tensor | float, condition: Condition = NO_CONDITION) -> Tensor:
        """A two-time network's :meth:`denoise` in one evaluation: a guidance weight is its input, as in :meth:`jump`."""
        return self._estimate(x, sigma, condition, self._levels(x, sigma))

    def _guided(self, x: Tensor, sigma: Tensor | float, condition: Condition, diagonal: Tensor | None) -> Tensor:
        """The estimate, of two evaluations where the condition has a guidance weight."""
        if condition.guidance is None:
            return self._estimate(x, sigma, condition, diagonal)
        weight = expand(condition.guidance, x)
        condition = replace(condition, guidance=None)
        conditional = self._estimate(x, sigma, condition, diagonal)
        unconditional = self._estimate(x, sigma, condition.dropped(), diagonal)
        return unconditional + weight * (conditional - unconditional)

    def _held(self, estimate: Tensor) -> Tensor:
        """Inside the range that the network's authors hold its estimates to."""
        limit = self.parameterization.limit
        return estimate if limit is None else estimate.clamp(-limit, limit)

    def endpoint(self, x: Tensor, sigma: Tensor | float, condition: Condition = NO_CONDITION) -> Tensor:
        """Where the trajectory through ``x`` ends; for a teacher, its :meth:`denoise`. What samplers call."""
        if self.role == "teacher":
            return self.denoise(x, sigma, condition)
        if self.role == "two-time":
            return self.jump(x, sigma, self.sigma_boundary, condition)
        return self._estimate(x, sigma, condition)

    def jump(
        self, x: Tensor, sigma: Tensor | float, sigma_next: Tensor | float, condition: Condition = NO_CONDITION
    ) -> Tensor:
        """The point of the trajectory through ``x`` at ``sigma_next``; ``x`` itself where both levels are equal.

        A two-time network has learned it; a teacher takes an Euler step of the ODE; a one-time consistency model reaches
        the boundary only.

        Raises:
            UserError: ``sigma_next`` is a level that a one-time consistency model does not reach.
        """
        if not isinstance(sigma, Tensor) and not isinstance(sigma_next, Tensor) and sigma == sigma_next:
            return x
        here, there = self._levels(x, sigma), self._levels(x, sigma_next)
        if self.role == "consistency":
            return self._to_the_boundary(x, here, there, condition)
        # In the canonical process one form serves all: an Euler step of the ODE, CTM's G (arXiv 2310.02279, eq. 9) and
        # MeanFlow's z_r = z_t - (t - r) u (arXiv 2505.13447) are this interpolation with their own estimate.
        estimate = self.aim(x, here, there, condition)
        # Where both levels are equal, 0 included, the ratio is 1 and the sample stays as it is.
        ratio = expand(torch.where(here == there, 1.0, there / here), x)
        return ratio * x + (1 - ratio) * estimate

    def aim(
        self, x: Tensor, sigma: Tensor | float, sigma_next: Tensor | float, condition: Condition = NO_CONDITION
    ) -> Tensor:
        """The clean tensor that :meth:`jump` moves ``x`` towards: ``x_next = x + (1 - sigma_next / sigma) (aim - x)``.

        Of a two-time model CTM's g (arXiv 2310.02279, eq. 9): the trajectory's end where ``sigma_next`` is 0, the posterior
        mean where both levels are equal. Of a teacher :meth:`denoise`, of a one-time consistency model :meth:`endpoint`.
        """
        if self.role == "two-time":
            return self._estimate(x, sigma, condition, self._levels(x, sigma_next))
        return self.endpoint(x, sigma, condition)

    def _to_the_boundary(self, x: Tensor, here: Tensor, there: Tensor, condition: Condition) -> Tensor:
        """The jump of a one-time consistency model. To refuse is to look at levels on the host: no loss comes here."""
        stays = here == there
        if bool(((there != self.sigma_boundary) & ~stays).any()):
            raise UserError(
                f"this consistency model jumps to sigma = {self.sigma_boundary:g} only, not to {float(there[0]):g}; "
                "intermediate levels need a two-time model or a teacher"
            )
        return torch.where(expand(stays, x), x, self.endpoint(x, here, condition))

    def raw(self, x_native: Tensor, t: Tensor, condition: Condition = NO_CONDITION, t_next: Tensor | None = None) -> Tensor:
        """The network's own output on its native process and time, for methods that are written there: one evaluation.

        Args:
            x_native: (B, C, *spatial), ``parameterization.scale(sigma) * x``. t, t_next: (B,) native times.
        """
        sigma = self.parameterization.to_sigma(t)
        factor = expand(self.parameterization.network_input(sigma), x_native)
        return self._network(factor * x_native, t, condition, t_next)

    def _estimate(self, x: Tensor, sigma: Tensor | float, condition: Condition, sigma_next: Tensor | None = None) -> Tensor:
        levels = self._levels(x, sigma)
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        # Coefficients and their use stay out of autocast: at sigma = 80 half precision would move the estimate.
        with full_precision(x.device):
            c_in, c_skip, c_out, c_noise = (expand(c, x) for c in self.parameterization.coefficients(levels))
            network_input = (c_in * x).to(x.dtype)
            time = c_noise.flatten()
            time_next = None if sigma_next is None else self.parameterization.to_native(sigma_next)
        output = self._network(network_input, time, condition, time_next)
        with full_precision(x.device):
            return (c_skip * x + c_out * output.to(x.dtype)).to(x.dtype)

    def _network(self, x: Tensor, time: Tensor, condition: Condition, time_next: Tensor | None) -> Tensor:
        self.nfe += 1
        size = self.evaluation_batch
        if self.training or size is None or len(x) <= size:
            return self._call(x, time, condition, time_next)
        parts = []
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            later = None if time_next is None else time_next[part]
            parts.append(self._call(x[part], time[part], condition[part], later))
        return torch.cat(parts)

    def _call(self, x: Tensor, time: Tensor, condition: Condition, time_next: Tensor | None) -> Tensor:
        parameter = next(self.network.parameters(), None)
        dtype = x.dtype if parameter is None else parameter.dtype
        if time_next is None:
            return cast(Tensor, self.network(x.to(dtype), time, condition))
        return cast(Tensor, self.network(x.to(dtype), time, condition, time_next))

    def _levels(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """``sigma`` as (B,) in float32 or better on x's device."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        if isinstance(sigma, (int, float)):
            return torch.full((len(x),), float(sigma), dtype=dtype, device=x.device)
        return sigma.to(device=x.device, dtype=dtype).expand(len(x))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the former mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def expand(value: Tensor, like: Tensor) -> Tensor:
    """One number per sample, (B,), in a shape that multiplies ``like`` (B, C, *spatial)."""
    return value.view(-1, *([1] * (like.dim() - 1)))
