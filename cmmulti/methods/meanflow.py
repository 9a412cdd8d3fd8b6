"""MeanFlow: average velocities learned in one stage (Geng et al. 2025, arXiv 2505.13447)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmmulti.conditioning import Condition
from cmmulti.distances import squared_l2
from cmmulti.methods.base import Loss, Method, MethodSettings, Progress, Recommended
from cmmulti.methods.derivative import Derivative, along, steps_inside
from cmmulti.model import Model, Role, evaluating, expand
from cmmulti.parameterization import Flow, Parameterization
from cmmulti.randomness import TrainingRandomness


class MeanFlowSettings(MethodSettings):
    """Settings of MeanFlow; the defaults are the authors' for ImageNet latents.

    ``p_mean``, ``p_std``: of the normal law whose sigmoid is a time; two draws, sorted, are t and r. ``r_law``: another
    mean and deviation for r, which is then cut at t (CIFAR-10: -0.6, 1.6 and ``r_law`` -4, 1.6). ``apart``: share of the
    batch with r below t (CIFAR-10: 0.75). ``power``, ``constant``: p and c of the weight ``1 / (|e|^2 + c)^p`` (CIFAR-10: p
    0.75). ``omega``, ``kappa``: of guidance in training, effective scale ``omega / (1 - kappa)``; 1 and 0 train without,
    all else needs ``label_dropout``. ``guidance_from``, ``guidance_to``: the times t at which it applies.
    """

    p_mean: float = -0.4
    p_std: float = Field(1.0, gt=0)
    r_law: tuple[float, float] | None = None
    apart: float = Field(0.25, ge=0, le=1)
    power: float = Field(1.0, ge=0)
    constant: float = Field(1e-3, gt=0)
    omega: float = 1.0
    kappa: float = Field(0.0, ge=0, lt=1)
    guidance_from: float = Field(0.0, ge=0, le=1)
    guidance_to: float = Field(1.0, ge=0, le=1)
    derivative: Derivative = "forward-mode"
    difference_step: float = Field(1e-3, gt=0, le=0.1)


class MeanFlow(Method):
    """A network of two times learns the average velocity between them, and one evaluation crosses the whole way.

    On ``z = (1 - t) x0 + t n`` with ``v = n - x0`` the average velocity ``u(z, r, t) = (z - z_r) / (t - r)`` obeys
    ``u = v - (t - r) du/dt``, du/dt along (v, r: 0, t: 1) (eq. 6 to 8). The right side without gradient is the target, and
    ``|u - target|^2 / sg(|u - target|^2 + c)^p`` the loss (eq. 9 and appendix B). Where r = t it is flow matching. With
    guidance, samples whose condition was dropped are among those and not guided (section 4.2 and the authors' code), but
    not where a whole batch has none, as of data without labels: jumps of those would never be learned.
    """

    Settings = MeanFlowSettings
    settings: MeanFlowSettings
    role: ClassVar[Role] = "two-time"
    differentiates = True
    paper = "arXiv 2505.13447"
    shards = True

    @property
    def guides_itself(self) -> bool:
        return self.settings.omega != 1 or self.settings.kappa != 0

    def parameterization(self, sigma_data: float) -> Parameterization:
        return Flow()

    def times(self, first: Tensor, second: Tensor, apart: Tensor, latest: float) -> tuple[Tensor, Tensor]:
        """``t, r`` from two standard normal draws (B,), with r = t where ``apart`` is false and both at most ``latest``."""
        s = self.settings
        t = torch.sigmoid(s.p_mean + s.p_std * first).clamp_max(latest)
        mean, std = s.r_law or (s.p_mean, s.p_std)
        r = torch.sigmoid(mean + std * second).clamp_max(latest)
        if s.r_law is None:
            t, r = torch.maximum(t, r), torch.minimum(t, r)
        return t, torch.where(apart, torch.minimum(t, r), t)

    def apart(self, together: Tensor, offset: Tensor) -> Tensor:
        """Which samples (B,) get r below t: a share of the batch by index, and none of those that are to stay ``together``.

        ``offset`` (1,) uniform on [0, 1) decides on a share that is no whole number of samples.
        """
        n = len(together)
        order = torch.argsort((~together).long(), stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(n, device=order.device))
        equal = torch.floor(n * (1 - self.settings.apart) + offset)
        return (rank >= equal) & ~together

    def loss(
        self, model: Model, x0: Tensor, condition: Condition, progress: Progress, randomness: TrainingRandomness
    ) -> Loss:
        s, n, device = self.settings, len(x0), x0.device
        dropped = condition.unconditional(x0)
        together = dropped & ~dropped.all() & self.guides_itself
        apart = self.apart(together, randomness.uniform(1, device, "share"))
        blank = torch.empty(n, device=device)
        first, second = randomness.normal_like(blank, "t"), randomness.normal_like(blank, "r")
        t, r = self.times(first, second, apart, model.sigma_max / (1 + model.sigma_max))
        noise = randomness.normal_like(x0)
        z, v = x0 + expand(t, x0) * (noise - x0), noise - x0
        v = self.velocity(model, z, v, t, dropped, condition)

        def network(z: Tensor, t: Tensor, r: Tensor) -> Tensor:
            with randomness.dropout(device):
                return model.raw(z, t, condition, r).to(z.dtype)

        # The target first: the pass with a gradient keeps its activations in memory until the backward pass.
        target = self.target(network, z, t, r, v)
        average = network(z, t, r)
        error = squared_l2(average, target)
        weight = (error.detach() + s.constant).pow(-s.power)
        sigma = (t / (1 - t)).clamp_max(model.sigma_max)
        # What the derivative adds to the velocity, (t - r) du/dt; 0 for the samples with r = t.
        extras = {"tangent_norm": (target - v).flatten(1).norm(dim=1), "ratio": r / t}
        return Loss((weight * error).mean(), sigma, error.detach() / x0[0].numel(), extras)

    def target(self, network: Callable[..., Tensor], z: Tensor, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """``v - (t - r) du/dt`` without gradient; ``network(z, t, r)`` is u (eq. 8 and 10)."""
        s = self.settings
        direction = (v, torch.ones_like(t), torch.zeros_like(r))
        # The factor is inside the derivative: a sample with r = t has no derivative at all.
        return v - along(network, (z, t, r), direction, t - r, steps_inside(t, 1.0, s.difference_step), s.derivative)

    @torch.no_grad()
    def velocity(self, model: Model, z: Tensor, v: Tensor, t: Tensor, dropped: Tensor, condition: Condition) -> Tensor:
        """``omega v + (1 - omega - kappa) u(z, t, t | null) + kappa u(z, t, t | label)`` where guidance applies, else v.

        Evaluated without dropout; at omega 1 and kappa 0 it is v, and nothing is evaluated.
        """
        s = self.settings
        if s.omega == 1 and s.kappa == 0:
            return v
        with evaluating(model):
            free = model.raw(z, t, condition.dropped(), t).to(z.dtype)
            held = model.raw(z, t, condition, t).to(z.dtype) if s.kappa else free
        mixed = s.omega * v + (1 - s.omega - s.kappa) * free + s.kappa * held
        applies = (t >= s.guidance_from) & (t <= s.guidance_to) & ~dropped
        return torch.where(expand(applies, z), mixed, v)

    def recommended(self) -> Recommended:
        return Recommended(optimizer="adam", learning_rate=1e-4, betas=(0.9, 0.95))
