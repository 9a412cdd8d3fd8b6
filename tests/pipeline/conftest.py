"""An untrained model of 8 x 8 pictures."""

from __future__ import annotations

import pytest
import torch

from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.folder import Piece


@pytest.fixture
def config() -> PipelineConfig:
    return PipelineConfig(
        name="tiny",
        modality=Piece(name="image", settings={"size": [8, 8], "channels": 1, "classes": 10}),
        network=Piece(name="unet", settings={"in_channels": 1, "channels": [8, 16], "classes": 10}),
        parameterization=Piece(name="edm", settings={"sigma_data": 0.5}),
        role="consistency",
        classes=[str(i) for i in range(10)],
    )


@pytest.fixture
def pipe(config: PipelineConfig) -> Pipeline:
    torch.manual_seed(0)
    model = config.build_model()
    for parameter in model.network.parameters():  # the zeros that a network starts with would hide the condition
        torch.nn.init.normal_(parameter, std=0.1)
    return Pipeline(model.eval(), config.build_modality(), config, "# A tiny model\n")
