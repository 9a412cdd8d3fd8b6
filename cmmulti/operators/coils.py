"""What several receivers see of one image."""

from __future__ import annotations

from torch import Tensor

from cmmulti.operators.base import LinearOperator


class Coils(LinearOperator):
    """One complex image as every coil sees it: ``A x = (S_1 x, S_2 x, ...)``; ``A^H y = sum conj(S_c) y_c``.

    The coil sensitivities of parallel MRI (SENSE, Pruessmann et al. 1999).

    Args:
        maps: S, complex, (B or 1, coils, *spatial); 0 where they are not known.
    """

    closed_form_pinv = True

    def __init__(self, maps: Tensor) -> None:
        super().__init__((1, *maps.shape[2:]), maps.shape[1:], complex_domain=True, complex_range=True)
        self.maps = maps

    def forward(self, x: Tensor) -> Tensor:
        return x * self.maps.to(x.device, x.dtype.to_complex())

    def backward(self, y: Tensor) -> Tensor:
        return (y * self.maps.to(y).conj()).sum(1, keepdim=True)

    def pinv(self, y: Tensor) -> Tensor:
        power = self.maps.to(y).abs().square().sum(1, keepdim=True)
        return (self.adjoint(y) / power).where(power > 0, 0.0)
