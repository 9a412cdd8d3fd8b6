"""Features of data without labels."""

from __future__ import annotations

import pytest
import torch

from cmmulti.evaluation.features import PrincipalComponents


def far_off(n: int) -> torch.Tensor:
    """Rows far from the origin whose spread falls from direction to direction."""
    generator = torch.Generator().manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(20, 20, generator=generator))
    return (5 + torch.randn(n, 20, generator=generator) * torch.linspace(3, 0.1, 20) @ turn).view(n, 1, 4, 5)


def test_principal_components_are_those_of_the_covariance() -> None:
    """Their variances are its leading eigenvalues, their mean is 0; where the data lie is no component."""
    x = far_off(300)
    found = PrincipalComponents(x, 4)(x)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.flatten(1).double().T)).flip(0)
    assert found.var(0).tolist() == pytest.approx(eigenvalues[:4].tolist(), rel=1e-3)
    assert found.mean(0).tolist() == pytest.approx([0] * 4, abs=1e-4)


def test_a_few_items_have_one_component_less() -> None:
    x = far_off(5)
    assert PrincipalComponents(x)(x).shape == (5, 4)
