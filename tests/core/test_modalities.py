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
        "audio": case("audio", ROOT / "modalities/audio/inputs/digit-3-jackson.wav", 0.2, mean=-8.9, std=2.8),
        "volume": case("volume", nifti, 0.01, size=(48, 48), voxel_mm=(2.0, 2.0)),
    }


def test_documented_licences_are_those_of_the_code():
    from modalities.audio.spoken_digits import SpokenDigits
    from modalities.image.datasets import DATASETS
    from modalities.image.datasets import TERMS as PICTURES
    from modalities.volume.archives import ARCHIVES
    from modalities.volume.datasets import TERMS as SCANS

    assert PICTURES.keys() == DATASETS.keys()
    assert SCANS.keys() == ARCHIVES.keys()
    told = {**PICTURES, **SCANS, "fsdd": (SpokenDigits.licence, SpokenDigits.attribution)}
    rows = [line.split("|") for line in (ROOT / "docs/data.md").read_text().splitlines() if line.startswith("| `")]
    documented = {row[1].strip(" `"): row[4].split("(")[0].strip() for row in rows}
    assert documented.keys() == told.keys()
    for name, (licence, attribution) in told.items():
        said = "none stated" if licence == "unknown" else licence.replace("-", " ").replace("BY SA", "BY-SA")
        assert documented[name].startswith(said), name
        assert attribution


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("image", {"size": (8, 12), "channels": 1}, {"size": "8 x 12 pixels", "channels": "grey"}),
        (
            "audio",
            {"mel": {"rate": 16000, "fmax": 7000, "hop": 128}, "samples": 8000},
            {"rate": "16000 Hz", "clip": "0.5 s, 8000 samples", "mel": "to 7000 Hz", "band": "up to 7200 Hz"},
        ),
        (
            "volume",
            {"plane": "coronal", "size": (30, 20), "voxel_mm": (2, 1.5)},
            {"scans": "MR", "plane": "coronal", "voxel size": "2 x 1.5 mm", "field of view": "60 x 30 mm, 30 x 20 voxels"},
        ),
        (
            "volume",
            {"kind": "ct", "dims": 3, "size": (8, 4, 4), "voxel_mm": (1, 1, 1)},
            {"scans": "CT, window of -1000 to 1000 HU", "plane": "whole volumes", "field of view": "8 x 4 x 4 mm"},
        ),
    ],
)
def test_what_a_card_says_of_the_settings(kind, settings, told):
    adapter = registry.load("modalities", kind)
    found = adapter(adapter.Settings(**settings)).specification()
    for name, part in told.items():
        assert part in found[name]


@pytest.mark.parametrize("name", ["image", "audio", "volume"])
@pytest.mark.parametrize("check", check_modality.checks)
def test_contract(cases, name, check):
    check_modality.checks[check](cases[name])


def test_a_made_item_of_another_size_is_noticed(picture):
    """Where what is written is not what was made, the suite says so."""
    image = registry.load("modalities", "image")

    class Doubling(image):
        def save(self, item, path):
            return super().save(type(item)(item.array.repeat(2, 0)), path)

    broken = ModalityCase(Doubling(image.Settings(size=16)), picture, 0.5 / 127)
    with pytest.raises(AssertionError, match=r"of shape \(1, 3, 16, 16\) reads back as \(1, 3, 32, 16\)"):
        check_modality.checks["generated_items_can_be_written"](broken)
