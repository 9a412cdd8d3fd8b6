"""The contract of parameterizations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.model import Model
from cmmulti.noise import SIGMA_MAX, SIGMA_MIN
from cmmulti.parameterization import Parameterization
from cmmulti.testing.suite import Suite, fail_unless

check_parameterization: Suite[Parameterization] = Suite("parameterization")
"""Run on any parameterization; levels are those its native time can tell apart, at most 0.002 to 80."""


def levels(form: Parameterization, n: int = 60) -> Tensor:
    """(n,) float64, evenly spaced in ``ln sigma`` over the range that the native time covers."""
    ends = torch.tensor([max(SIGMA_MIN, form.sigma_boundary), SIGMA_MAX], dtype=torch.float64)
    low, high = form.to_sigma(form.to_native(ends)).log().tolist()
    return torch.linspace(low, high, n, dtype=torch.float64).exp()


@check_parameterization.check
def boundary(form: Parameterization) -> None:
    """At ``sigma_boundary`` the estimate is the input: ``c_skip = 1`` and ``c_out = 0``, in float32 too."""
    for dtype in (torch.float32, torch.float64):
        c = form.coefficients(torch.tensor([form.sigma_boundary], dtype=dtype))
        error = max(abs(float(c.c_skip) - 1), abs(float(c.c_out)))
        fail_unless(
            error <= 4 * torch.finfo(dtype).eps, f"at sigma_boundary c_skip, c_out are {error:.2g} off 1, 0 ({dtype})"
        )


@check_parameterization.check
def native_time_round_trip(form: Parameterization) -> None:
    """``to_sigma(to_native(sigma)) = sigma``, and the native time is strictly monotone."""
    sigma = levels(form)
    t = form.to_native(sigma)
    error = float((form.to_sigma(t) / sigma - 1).abs().max())
    fail_unless(error < 1e-9, f"to_sigma(to_native(sigma)) is off by {error:.2g} relative")
    steps = t.diff()
    fail_unless(bool((steps > 0).all() or (steps < 0).all()), "the native time is not strictly monotone in sigma")


@check_parameterization.check
def shapes_and_dtypes(form: Parameterization) -> None:
    """Everything has the shape and dtype of ``sigma``, of any rank, and leaves it as it was."""
    for dtype in (torch.float32, torch.float64):
        for sigma in (levels(form, 6).to(dtype).view(2, 3), torch.tensor(1.0, dtype=dtype), torch.zeros(0, dtype=dtype)):
            kept = sigma.clone()
            for value in (*form.coefficients(sigma), form.to_native(sigma), form.scale(sigma), form.network_input(sigma)):
                fail_unless(
                    value.shape == sigma.shape and value.dtype == dtype, f"{value.dtype} {tuple(value.shape)} came back"
                )
            fail_unless(torch.equal(sigma, kept), "sigma is changed")


@check_parameterization.check
def single_precision(form: Parameterization) -> None:
    """float32 coefficients are those of float64 to 1e-5 of the estimate's size, and finite from 0 to 80."""
    sigma = levels(form)
    exact, single = form.coefficients(sigma), form.coefficients(sigma.float())
    for name, a, b in zip(exact._fields, exact, single, strict=True):
        error = float(((a - b.double()).abs() / a.abs().clamp_min(1e-3)).max())
        fail_unless(error < 1e-3 if name == "c_out" else error < 1e-4, f"{name} in float32 is off by {error:.2g} relative")
    ends = torch.tensor([0.0, form.sigma_boundary, SIGMA_MAX])
    finite = all(bool(v.isfinite().all()) for v in (*form.coefficients(ends), form.to_native(ends), form.scale(ends)))
    fail_unless(finite, "a value at sigma = 0, the boundary or 80 is not finite in float32")


@check_parameterization.check
def estimates_and_outputs(form: Parameterization) -> None:
    """Network output -> clean estimate -> network output, and the noise ``(x - D) / sigma`` that goes with it."""
    sigma = levels(form, 20)[1:]
    generator = torch.Generator().manual_seed(0)
    x, output = torch.randn(2, len(sigma), generator=generator, dtype=torch.float64) * torch.stack(
        [sigma + 0.5, sigma * 0 + 1]
    )
    c = form.coefficients(sigma)
    estimate = c.c_skip * x + c.c_out * output
    noise = (x - estimate) / sigma
    again = (x - sigma * noise - c.c_skip * x) / c.c_out
    error = float((again - output).abs().max())
    fail_unless(error < 1e-6, f"output -> estimate -> noise -> output is off by {error:.2g}")


@check_parameterization.check
def one_network_on_both_processes(form: Parameterization) -> None:
    """Methods that are written on the native process show the network the same input and time as a denoiser does."""
    sigma = levels(form, 20)
    x = torch.randn(len(sigma), 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network = _Shown()
    model = Model(network, form)
    model.denoise(x, sigma)
    model.raw(form.scale(sigma).view(-1, 1, 1) * x, form.to_native(sigma))
    (canonical, told), (native, t) = network.shown
    error = float((t - told).abs().max() / told.abs().max())
    fail_unless(error < 1e-9, f"c_noise differs from to_native(sigma) by {error:.2g} relative")
    error = float((native - canonical).abs().max() / canonical.abs().max())
    fail_unless(error < 1e-9, f"scale times network_input differs from c_in by {error:.2g} relative")


class _Shown(nn.Module):
    """Notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION) -> Tensor:
        self.shown.append((x, time))
        return x


@check_parameterization.check
def smooth_in_time(form: Parameterization) -> None:
    """Coefficients have finite derivatives inside the range: continuous-time methods differentiate them."""
    sigma = levels(form, 10)[1:-1].requires_grad_()
    c = form.coefficients(sigma)
    (slope,) = torch.autograd.grad((c.c_in + c.c_skip + c.c_out + c.c_noise).sum(), sigma)
    fail_unless(bool(slope.isfinite().all()), "a derivative of the coefficients is not finite")


@check_parameterization.check
def settings_are_its_state(form: Parameterization) -> None:
    """A frozen dataclass with a ``kind``: two of equal settings are equal, and it is hashable."""
    fail_unless(bool(getattr(form, "kind", "")), "`kind`, the name in config.json, is missing")
    twin = type(form)(**{k: v for k, v in vars(form).items() if not k.startswith("_")})
    fail_unless(twin == form and hash(twin) == hash(form), "equal settings do not make equal parameterizations")
