"""The contract of linear operators."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cmmulti.operators.base import LinearOperator
from cmmulti.testing.suite import Suite, fail_unless

check_operator: Suite[LinearOperator] = Suite("operator")
"""Run on an operator whose own tensors are for one sample or for a batch of two."""


def random_domain(operator: LinearOperator, seed: int = 0, double: bool = True) -> Tensor:
    """Two random samples of the operator's domain."""
    return _random(operator.domain, operator.complex_domain, seed, double)


def random_range(operator: LinearOperator, seed: int = 1, double: bool = True) -> Tensor:
    """Two random samples of the operator's range."""
    return _random(operator.range, operator.complex_range, seed, double)


def real_matrices(operator: LinearOperator) -> Tensor:
    """(2, m, d) float64: the matrix of each sample of a batch of two, between real coordinates."""
    d = math.prod(operator.domain) * (2 if operator.complex_domain else 1)
    columns = []
    for unit in torch.eye(d, dtype=torch.float64):
        x = torch.view_as_complex(unit.unflatten(0, (-1, 2)).contiguous()) if operator.complex_domain else unit
        y = operator(x.unflatten(0, operator.domain).expand(2, *operator.domain))
        columns.append((torch.view_as_real(y) if y.is_complex() else y).flatten(1))
    return torch.stack(columns, -1)


def dot_error(operator: LinearOperator, double: bool = True) -> float:
    """``|Re <A x, y> - Re <x, A^H y>|`` over the larger of ``|A x| |y|`` and ``|x| |A^H y|``."""
    x, y = random_domain(operator, 2, double), random_range(operator, 3, double)
    image, back = operator(x), operator.adjoint(y)
    size = max(float(image.norm() * y.norm()), float(x.norm() * back.norm()), 1e-300)
    return abs(_dot(image, y) - _dot(x, back)) / size


@check_operator.check
def adjoint(operator: LinearOperator) -> None:
    """The dot-product test, to 1e-10 in float64."""
    error = dot_error(operator)
    fail_unless(error < 1e-10, f"<A x, y> and <x, A^H y> differ by {error:.2g} relative, expected < 1e-10 in float64")


@check_operator.check
def adjoint_in_float32(operator: LinearOperator) -> None:
    """The dot-product test in single precision, and single precision kept."""
    error = dot_error(operator, double=False)
    fail_unless(error < 1e-4, f"<A x, y> and <x, A^H y> differ by {error:.2g} relative, expected < 1e-4 in float32")
    image, back = operator(random_domain(operator, double=False)), operator.adjoint(random_range(operator, double=False))
    fail_unless(image.dtype == _dtype(operator.complex_range, False), f"A x of single precision is {image.dtype}")
    fail_unless(back.dtype == _dtype(operator.complex_domain, False), f"A^H y of single precision is {back.dtype}")


@check_operator.check
def shapes(operator: LinearOperator) -> None:
    """Domain and range are as said, real or complex as said, and another shape is refused."""
    image, back = operator(random_domain(operator)), operator.adjoint(random_range(operator))
    fail_unless(tuple(image.shape[1:]) == operator.range, f"A x has shape {tuple(image.shape[1:])}, not {operator.range}")
    fail_unless(tuple(back.shape[1:]) == operator.domain, f"A^H y has shape {tuple(back.shape[1:])}, not {operator.domain}")
    fail_unless(image.is_complex() == operator.complex_range, "complex_range does not say what A x is")
    fail_unless(back.is_complex() == operator.complex_domain, "complex_domain does not say what A^H y is")
    try:
        operator(torch.zeros(2, *operator.domain, 1))
    except ValueError:
        return
    raise AssertionError("an input of another shape is not refused")


@check_operator.check
def linear(operator: LinearOperator) -> None:
    """``A (a x + b z) = a A x + b A z``; on complex domains that are complex-linear, complex factors are not asked for."""
    x, z = random_domain(operator, 4), random_domain(operator, 5)
    difference = operator(1.7 * x - 0.6 * z) - (1.7 * operator(x) - 0.6 * operator(z))
    error = float(difference.norm() / operator(x).norm().clamp_min(1e-300))
    fail_unless(error < 1e-10, f"A (a x + b z) differs from a A x + b A z by {error:.2g} relative")


@check_operator.check
def samples_stay_apart(operator: LinearOperator) -> None:
    """What one sample of a batch holds changes nothing in another, and inputs are left as they were."""
    x = random_domain(operator, 6)
    kept = x.clone()
    full = operator(x)
    fail_unless(torch.equal(x, kept), "A changes its input")
    changed = x.clone()
    changed[1] = 0
    error = float((operator(changed)[0] - full[0]).norm())
    fail_unless(error <= 1e-10 * float(full[0].norm()), "the first sample's result depends on the second sample")


@check_operator.check
def gradient(operator: LinearOperator) -> None:
    """Automatic differentiation gives the adjoint."""
    x, y = random_domain(operator, 7).requires_grad_(), random_range(operator, 8)
    product = operator(x).conj() * y
    (back,) = torch.autograd.grad((product.real if product.is_complex() else product).sum(), x)
    want = operator.adjoint(y)
    error = float((back - want).norm() / want.norm().clamp_min(1e-300))
    fail_unless(error < 1e-8, f"the gradient of Re <A x, y> differs from A^H y by {error:.2g} relative")


@check_operator.check
def pseudo_inverse(operator: LinearOperator) -> None:
    """``A A^+ A x = A x`` and ``A^+ A A^+ y = A^+ y``: to 1e-8 where closed form, else to CG's tolerance."""
    tolerance = 1e-8 if operator.closed_form_pinv else 1e-3
    image = operator(random_domain(operator, 9))
    error = float((operator(operator.pinv(image)) - image).norm() / image.norm().clamp_min(1e-300))
    fail_unless(error < tolerance, f"A A^+ A x differs from A x by {error:.2g} relative, expected < {tolerance:g}")
    least = operator.pinv(random_range(operator, 10))
    error = float((operator.pinv(operator(least)) - least).norm() / least.norm().clamp_min(1e-300))
    fail_unless(error < tolerance, f"A^+ A A^+ y differs from A^+ y by {error:.2g} relative, expected < {tolerance:g}")


@check_operator.check
def minimum_norm(operator: LinearOperator) -> None:
    """``A^+ y`` has no part in the null space: it is orthogonal to ``x - A^+ A x``."""
    x = random_domain(operator, 11)
    hidden = x - operator.pinv(operator(x))
    least = operator.pinv(random_range(operator, 12))
    size = float(hidden.norm() * least.norm())
    tolerance = 1e-8 if operator.closed_form_pinv else 1e-3
    # A hidden part that is rounding alone has no direction.
    if float(hidden.norm()) > 1e-3 * float(x.norm()):
        error = abs(_dot(hidden, least)) / max(size, 1e-300)
        fail_unless(error < tolerance, f"A^+ y and the null space have a cosine of {error:.2g}, expected < {tolerance:g}")


@check_operator.check
def least_squares(operator: LinearOperator) -> None:
    """``A^+ y`` is nearest to y where y is no image: ``A^H (A A^+ y - y) = 0``; and single precision is kept."""
    y = random_range(operator, 18)
    misfit = operator(operator.pinv(y)) - y
    tolerance = 1e-8 if operator.closed_form_pinv else 1e-3
    size = max(operator.norm() * float(y.norm()), 1e-300)
    error = float(operator.adjoint(misfit).norm()) / size
    fail_unless(error < tolerance, f"A^H (A A^+ y - y) is {error:.2g} of |A| |y|, expected < {tolerance:g}")
    single = operator.pinv(random_range(operator, 18, double=False)).dtype
    fail_unless(single == _dtype(operator.complex_domain, False), f"A^+ y of single precision is {single}")


@check_operator.check
def unitary_as_said(operator: LinearOperator) -> None:
    """Where ``unitary`` is set, adjoint and operator undo each other."""
    if operator.unitary:
        x, y = random_domain(operator, 13), random_range(operator, 14)
        error = max(
            float((operator.adjoint(operator(x)) - x).norm() / x.norm()),
            float((operator(operator.adjoint(y)) - y).norm() / y.norm()),
        )
        fail_unless(error < 1e-10, f"unitary is set, but A^H A x differs from x by {error:.2g} relative")


@check_operator.check
def norm(operator: LinearOperator) -> None:
    """The norm is the largest singular value, to a percent; on domains too large for a matrix it bounds ``|A x|``."""
    said = operator.norm()
    if math.prod(operator.domain) <= 600:
        true = max(float(torch.linalg.matrix_norm(matrix, 2)) for matrix in real_matrices(operator))
        fail_unless(abs(said - true) <= 0.01 * true, f"norm is {said:.4g}, the largest singular value is {true:.4g}")
    else:
        x = random_domain(operator, 15)
        stretch = float((operator(x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).max())
        fail_unless(stretch <= 1.01 * said, f"norm is {said:.4g}, but a random x is stretched by {stretch:.4g}")


@check_operator.check
def adjoint_as_operator(operator: LinearOperator) -> None:
    """``A.H`` maps range to domain and has A for its own adjoint."""
    y, x = random_range(operator, 16), random_domain(operator, 17)
    fail_unless(torch.equal(operator.H(y), operator.adjoint(y)), "A.H(y) is not A.adjoint(y)")
    fail_unless(torch.equal(operator.H.adjoint(x), operator(x)), "A.H.adjoint(x) is not A(x)")


def _dtype(is_complex: bool, double: bool) -> torch.dtype:
    if is_complex:
        return torch.complex128 if double else torch.complex64
    return torch.float64 if double else torch.float32


def _random(shape: tuple[int, ...], is_complex: bool, seed: int, double: bool) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((2, *shape), generator=generator, dtype=_dtype(is_complex, double))


def _dot(a: Tensor, b: Tensor) -> float:
    product = (a.conj() * b).sum()
    return float(product.real if product.is_complex() else product)
