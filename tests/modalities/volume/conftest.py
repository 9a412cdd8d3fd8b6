"""The helpers beside the tests importable, and the model and adapter of the task mri."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mri_toys import Silent

from cmmulti.model import Model
from cmmulti.parameterization import EDM
from modalities.volume.modality import VolumeModality
from modalities.volume.settings import VolumeSettings


@pytest.fixture(scope="module")
def model():
    return Model(Silent(), EDM(0.5))


@pytest.fixture(scope="module")
def modality():
    return VolumeModality(VolumeSettings(size=(44, 40), voxel_mm=(2.0, 2.0)))
