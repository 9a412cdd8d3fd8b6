"""A pipeline that answers in milliseconds: a tiny U-Net of random weights. It mixes all pixels that it sees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.folder import Piece, PipelineConfig
from modalities.image.picture import Picture


def _pipeline(channels: int, size: int) -> Pipeline:
    config = PipelineConfig(
        modality=Piece(name="image", settings={"size": size, "channels": channels}),
        network=Piece(name="unet", settings={"in_channels": channels, "channels": [4, 8], "blocks": 1, "attention": [1]}),
        parameterization=Piece(name="edm", settings={"sigma_data": 0.5}),
        role="consistency",
    )
    model = config.build_model().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return Pipeline(model, config.build_modality(), config)


@pytest.fixture(scope="session")
def rgb() -> Pipeline:
    return _pipeline(3, 16)


@pytest.fixture(scope="session")
def grey() -> Pipeline:
    return _pipeline(1, 16)


@pytest.fixture
def random_picture() -> Callable[..., Picture]:
    def make(
        height: int, width: int, channels: int = 3, dtype: type = np.uint8, alpha: bool = False, seed: int = 0
    ) -> Picture:
        rng = np.random.default_rng(seed)
        top = np.iinfo(dtype).max + 1
        array = rng.integers(0, top, (height, width, channels)).astype(dtype)
        return Picture(array, rng.integers(0, top, (height, width)).astype(dtype) if alpha else None)

    return make
