"""The three adapters under the contract suite."""

from pathlib import Path

import pytest
from nibabel.testing import data_path

from cmmulti import registry
from cmmulti.testing import ModalityCase, check_modality

ROOT = Path(__file__).parents[2]


def case(name, file, error, **settings):
    kind = registry.load("modalities", name)
    return ModalityCase(kind(kind.Settings(**settings)), file, error)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    import numpy as np
    from PIL import Image

    path = tmp_path_factory.mktemp("picture") / "picture.png"
    rows, columns = np.mgrid[:21, :34]
    Image.fromarray(np.stack([rows * 9, columns * 6, (rows * columns) % 256], -1).astype("uint8")).save(path)
    return path


@pytest.fixture(scope="module")
def cases(picture):
    nifti = Path(str(data_path)) / "anatomical.nii"
    return {
        "image": case("image", picture, 0.5 / 127, size=16),
        "audio": case("audio", ROOT / "modalities/audio/inputs/digit-3-jackson.wav", 0.2),
        "volume": case("volume", nifti, 0.01, size=(48, 48), voxel_mm=(2.0, 2.0)),
    }


@pytest.mark.parametrize("name", ["image", "audio", "volume"])
@pytest.mark.parametrize("check", check_modality.checks)
def test_contract(cases, name, check):
    check_modality.checks[check](cases[name])
