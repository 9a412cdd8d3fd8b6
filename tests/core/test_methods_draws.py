"""What one loss draws for different ends is independent: no two draws are of one key."""

from __future__ import annotations

import pytest
import torch

from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.methods import loss_of, prepared
from cmmulti.testing.tiny import methods

METHODS = methods()


@pytest.mark.parametrize("name", METHODS)
def test_each_draw_has_a_purpose_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    purposes: list[str] = []
    original = TrainingRandomness.generator

    def generator(self: TrainingRandomness, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        purposes.append(purpose)
        return original(self, purpose, device)

    monkeypatch.setattr(TrainingRandomness, "generator", generator)
    ready, model, _ = prepared(METHODS[name])
    loss_of(ready, model)
    assert len(purposes) >= 2
    assert sorted(purposes) == sorted(set(purposes))
